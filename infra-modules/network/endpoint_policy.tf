# What passes an endpoint, whosever credentials are used. It grants nothing: what a role may do is said where the
# role is. It keeps out the credentials of other accounts, so that whoever takes over a node cannot carry anything
# away to an account of their own.

locals {
  account = data.aws_caller_identity.current.account_id

  # S3: the buckets of this account for those who are of it.
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

  # Systems Manager's agent is fetched without credentials, and layers of images by links that ECR signs.
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

  # Every other service: those who are of this account.
  own_callers = {
    Sid       = "OwnCallers"
    Effect    = "Allow"
    Principal = "*"
    Action    = "*"
    Resource  = "*"
    Condition = { StringEquals = { "aws:PrincipalAccount" = local.account } }
  }

  # Where everything that is called for is this account's as well, it has to be.
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

  # AWS publishes documents for Systems Manager's agent, and parameters that name images.
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

  # A pod that takes a role by its service account's token has no credentials yet, and so no account.
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

    # Images and prefix lists of AWS's, and the images of EKS's add-ons, are in other accounts.
    ec2       = [local.own_callers]
    "ecr.api" = [local.own_callers]
    "ecr.dkr" = [local.own_callers]

    # These know no resources: a channel or a metric is its caller's.
    ec2messages = [local.own_callers]
    monitoring  = [local.own_callers]
    ssmmessages = [local.own_callers]
  }
}
