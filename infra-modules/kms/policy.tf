# Users of the key. IAM policies decide for the account's principals; AWS services that act on their own are named.

locals {
  region  = data.aws_region.current.region
  account = data.aws_caller_identity.current.account_id
  iam     = "arn:${data.aws_partition.current.partition}:iam::${local.account}"

  use = ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"]

  administer = [
    "kms:CancelKeyDeletion", "kms:CreateAlias", "kms:DeleteAlias", "kms:DescribeKey", "kms:DisableKey", "kms:DisableKeyRotation",
    "kms:EnableKey", "kms:EnableKeyRotation", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListAliases", "kms:ListGrants",
    "kms:ListKeyPolicies", "kms:ListKeyRotations", "kms:ListResourceTags", "kms:PutKeyPolicy", "kms:RetireGrant", "kms:RevokeGrant",
    "kms:RotateKeyOnDemand", "kms:ScheduleKeyDeletion", "kms:TagResource", "kms:UntagResource", "kms:UpdateAlias", "kms:UpdateKeyDescription",
  ]

  account_statements = [
    {
      Sid       = "Administer"
      Effect    = "Allow"
      Principal = { AWS = "${local.iam}:root" }
      Action    = local.administer
      Resource  = "*"
    },
    {
      Sid       = "Use"
      Effect    = "Allow"
      Principal = { AWS = "${local.iam}:root" }
      Action    = local.use
      Resource  = "*"
    },
    # The creator of a volume or cluster gives it a grant. EKS supports no kms:GrantIsForAWSResource here.
    {
      Sid       = "Grant"
      Effect    = "Allow"
      Principal = { AWS = "${local.iam}:root" }
      Action    = "kms:CreateGrant"
      Resource  = "*"
    },
  ]

  service_statements = {
    logs = [{
      Sid       = "CloudWatchLogs"
      Effect    = "Allow"
      Principal = { Service = "logs.${local.region}.amazonaws.com" }
      Action    = local.use
      Resource  = "*"
      Condition = {
        StringLike = {
          "kms:EncryptionContext:aws:logs:arn" = "arn:${data.aws_partition.current.partition}:logs:${local.region}:${local.account}:log-group:*"
        }
      }
    }]
    cloudwatch = [merge(local.publish["cloudwatch"], local.for_this_account)]
    budgets    = [merge(local.publish["budgets"], local.for_this_account)]
    # EventBridge sends no source in this call, so a condition would drop every message.
    events = [local.publish["events"]]
  }

  # Publishers to an encrypted SNS topic need a data key.
  publish = {
    for service in ["cloudwatch", "budgets", "events"] : service => {
      Sid       = "Publish${title(service)}"
      Effect    = "Allow"
      Principal = { Service = "${service}.amazonaws.com" }
      Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource  = "*"
    }
  }

  for_this_account = { Condition = { StringEquals = { "aws:SourceAccount" = local.account } } }

  statements = concat(local.account_statements, [for service in sort(var.services) : local.service_statements[service]]...)
}
