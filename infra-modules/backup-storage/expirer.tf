# The role with which an operator deletes expired backups. It reads none, and deletes no version: a deletion is a delete
# marker, which can be removed for `noncurrent_days`.

locals {
  account      = split(":", var.writer_role_arns[0])[4]
  expirer_name = "${var.name}-backup-expirer-${data.aws_region.current.region}"
  expirer_arn  = "arn:${data.aws_partition.current.partition}:iam::${local.account}:role/${local.expirer_name}"
}

resource "aws_iam_role" "expirer" {
  count = var.expirer == null ? 0 : 1

  name                 = local.expirer_name
  description          = "Deletes expired backups of ${var.bucket}"
  max_session_duration = 3600
  permissions_boundary = var.permissions_boundary

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [merge(
      {
        Sid       = "Operators"
        Effect    = "Allow"
        Action    = "sts:AssumeRole"
        Principal = { AWS = var.expirer.principal_arns }
      },
      var.expirer.mfa ? { Condition = { Bool = { "aws:MultiFactorAuthPresent" = "true" } } } : {},
    )]
  })
}

resource "aws_iam_role_policy" "expirer" {
  count = var.expirer == null ? 0 : 1

  name = "expire"
  role = aws_iam_role.expirer[0].name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "List"
        Effect   = "Allow"
        Action   = ["s3:ListBucket", "s3:ListBucketVersions"]
        Resource = local.arn
      },
      {
        Sid      = "Delete"
        Effect   = "Allow"
        Action   = "s3:DeleteObject"
        Resource = "${local.arn}/*"
      },
    ]
  })
}
