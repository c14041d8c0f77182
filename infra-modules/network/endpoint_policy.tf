# What passes an endpoint of S3, whosever credentials are used: the buckets of this account for those who are of it,
# so that whoever takes over a node cannot carry backups away to a bucket of their own.

locals {
  s3_arn = "arn:${data.aws_partition.current.partition}:s3:::"

  own_buckets = {
    Sid       = "OwnBuckets"
    Effect    = "Allow"
    Principal = "*"
    Action    = ["s3:AbortMultipartUpload", "s3:GetObject", "s3:ListBucket", "s3:PutObject"]
    Resource  = "${local.s3_arn}*"
    Condition = {
      StringEquals = {
        "aws:PrincipalAccount" = data.aws_caller_identity.current.account_id
        "aws:ResourceAccount"  = data.aws_caller_identity.current.account_id
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
}
