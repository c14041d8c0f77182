# Endpoint policies: limits for all credentials that use an endpoint. They grant nothing; roles have their own
# policies. They exclude credentials of other accounts, so that a compromised node cannot copy data to a foreign
# account.

locals {
  account = data.aws_caller_identity.current.account_id

  # S3: this account's principals on the cluster's buckets.
  s3_arn = "arn:${data.aws_partition.current.partition}:s3:::"

  own_buckets = {
    Sid       = "OwnBuckets"
    Effect    = "Allow"
    Principal = "*"
    Action    = ["s3:AbortMultipartUpload", "s3:GetObject", "s3:ListBucket", "s3:PutObject"]
    Resource  = flatten([for bucket in sort(var.bucket_names) : ["${local.s3_arn}${bucket}", "${local.s3_arn}${bucket}/*"]])
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

  # Hosts and tasks read images and secrets; the pipeline, which writes them, is elsewhere.
  own_images = merge(local.own_callers, {
    Sid    = "PullImages"
    Action = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetAuthorizationToken", "ecr:GetDownloadUrlForLayer"]
  })

  own_secrets = merge(local.own_resources, {
    Sid    = "ReadSecrets"
    Action = ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"]
  })

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

  # What the platform's programs and AWS's agents on its hosts call.
  service_statements = {
    logs           = [local.own_resources]
    secretsmanager = [local.own_secrets]
    ssm            = concat([local.own_resources], local.published_by_aws)

    # AWS's AMIs and prefix lists, and the images of EKS add-ons, are in other accounts.
    ec2       = [local.own_callers]
    "ecr.api" = [local.own_images]
    "ecr.dkr" = [local.own_images]

    # It has no resource-level permissions: a channel belongs to its caller.
    ssmmessages = [local.own_callers]
  }

  # On request. None of the platform's programs calls them: S3, EBS and Secrets Manager use keys on their own, nodes have
  # roles by their instance profile, Prometheus collects metrics, and the SSM agent from 3.3.40 on needs no ec2messages.
  further_statements = {
    ec2messages = [local.own_callers]
    kms         = [local.own_resources]
    monitoring  = [local.own_callers]
    sts         = [local.own_resources, local.web_identity]

    # Of a host of Prometheus and Alertmanager: the tasks that it scrapes, and the topic of alarms.
    ecs = [local.own_resources]
    sns = [local.own_resources]

    # Of EKS: its nodes, Pod Identity, and the controllers of load balancers and of autoscaling.
    autoscaling          = [local.own_callers]
    eks                  = [local.own_resources]
    eks-auth             = [local.own_callers]
    elasticloadbalancing = [local.own_callers]
  }

  endpoint_statements = merge(local.service_statements, { for service in var.further_endpoints : service => local.further_statements[service] })
}
