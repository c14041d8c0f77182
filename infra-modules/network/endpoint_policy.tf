# Endpoint policies: limits for all credentials that use an endpoint. They grant nothing; roles have their own
# policies. They exclude credentials of other accounts, so that a compromised node cannot copy data to a foreign
# account.

locals {
  account = data.aws_caller_identity.current.account_id

  # S3: this account's principals on this account's buckets.
  s3_arn = "arn:${data.aws_partition.current.partition}:s3:::"

  own_buckets = {
    Sid       = "OwnBuckets"
    Effect    = "Allow"
    Principal = "*"
    Action    = ["s3:AbortMultipartUpload", "s3:GetObject", "s3:ListBucket", "s3:PutObject"]
    Resource  = "${local.s3_arn}*"
    Condition = {
      StringEquals = {
        "aws:PrincipalAccount" = local.account
        "aws:ResourceAccount"  = local.account
      }
    }
  }

  # The SSM agent is downloaded without credentials, and image layers through presigned URLs of ECR.
  published = {
    Sid       = "AgentAndImages"
    Effect    = "Allow"
    Principal = "*"
    Action    = "s3:GetObject"
    Resource = [
      "${local.s3_arn}amazon-ssm-${data.aws_region.current.region}/*",
      "${local.s3_arn}prod-${data.aws_region.current.region}-starport-layer-bucket/*",
    ]
  }

  # Every other service: this account's principals.
  own_callers = {
    Sid       = "OwnCallers"
    Effect    = "Allow"
    Principal = "*"
    Action    = "*"
    Resource  = "*"
    Condition = { StringEquals = { "aws:PrincipalAccount" = local.account } }
  }

  # Services whose resources are all in this account: limited to them.
  own_resources = {
    Sid       = "OwnResources"
    Effect    = "Allow"
    Principal = "*"
    Action    = "*"
    Resource  = "*"
    Condition = {
      StringEquals = {
        "aws:PrincipalAccount" = local.account
        "aws:ResourceAccount"  = local.account
      }
    }
  }

  # AWS publishes documents for the SSM agent, and parameters with AMI ids.
  published_by_aws = [
    for it in [
      { sid = "Documents", path = "document", actions = ["ssm:DescribeDocument", "ssm:GetDocument"] },
      { sid = "Parameters", path = "parameter/aws", actions = ["ssm:GetParameter", "ssm:GetParameters"] },
    ] :
    {
      Sid       = "${it.sid}OfAws"
      Effect    = "Allow"
      Principal = "*"
      Action    = it.actions
      Resource  = "arn:${data.aws_partition.current.partition}:ssm:${data.aws_region.current.region}::${it.path}/*"
      Condition = { StringEquals = { "aws:PrincipalAccount" = local.account } }
    }
  ]

  # A pod that assumes a role with its service account's token has no credentials, and so no account, yet.
  web_identity = {
    Sid       = "RolesByTokens"
    Effect    = "Allow"
    Principal = "*"
    Action    = "sts:AssumeRoleWithWebIdentity"
    Resource  = "arn:${data.aws_partition.current.partition}:iam::${local.account}:role/*"
  }

  service_statements = {
    kms            = [local.own_resources]
    logs           = [local.own_resources]
    secretsmanager = [local.own_resources]
    ssm            = concat([local.own_resources], local.published_by_aws)
    sts            = [local.own_resources, local.web_identity]

    # AWS's AMIs and prefix lists, and the images of EKS add-ons, are in other accounts.
    ec2       = [local.own_callers]
    "ecr.api" = [local.own_callers]
    "ecr.dkr" = [local.own_callers]

    # These have no resource-level permissions: a channel or a metric belongs to its caller.
    ec2messages = [local.own_callers]
    monitoring  = [local.own_callers]
    ssmmessages = [local.own_callers]
  }
}
