# IAM is global, and each direction has a role: hence the region in its name.
resource "aws_iam_role" "this" {
  name                 = "${var.name}-backup-replication-${local.region}"
  description          = "Lets S3 replicate ${var.source_bucket.bucket} to ${var.destination.region}"
  permissions_boundary = var.permissions_boundary

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "S3"
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "s3.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy" "this" {
  name = "replicate"
  role = aws_iam_role.this.name

  policy = jsonencode({ Version = "2012-10-17", Statement = local.statements })
}

locals {
  statements = [
    {
      Sid      = "Configuration"
      Effect   = "Allow"
      Action   = ["s3:GetReplicationConfiguration", "s3:ListBucket"]
      Resource = var.source_bucket.arn
    },
    {
      Sid    = "Read"
      Effect = "Allow"
      Action = [
        "s3:GetObjectLegalHold", "s3:GetObjectRetention", "s3:GetObjectVersionAcl", "s3:GetObjectVersionForReplication", "s3:GetObjectVersionTagging",
      ]
      Resource = "${var.source_bucket.arn}/*"
    },
    # No s3:ReplicateDelete: the role deletes nothing.
    {
      Sid      = "Write"
      Effect   = "Allow"
      Action   = ["s3:ReplicateObject", "s3:ReplicateTags"]
      Resource = "${var.destination.arn}/*"
    },
    {
      Sid      = "Decrypt"
      Effect   = "Allow"
      Action   = "kms:Decrypt"
      Resource = var.source_bucket.kms_key_arn
      Condition = {
        StringEquals = { "kms:ViaService" = "s3.${local.region}.amazonaws.com" }
        StringLike   = { "kms:EncryptionContext:aws:s3:arn" = [var.source_bucket.arn, "${var.source_bucket.arn}/*"] }
      }
    },
    {
      Sid      = "Encrypt"
      Effect   = "Allow"
      Action   = ["kms:Encrypt", "kms:GenerateDataKey"]
      Resource = var.destination.kms_key_arn
      Condition = {
        StringEquals = { "kms:ViaService" = "s3.${var.destination.region}.amazonaws.com" }
        StringLike   = { "kms:EncryptionContext:aws:s3:arn" = [var.destination.arn, "${var.destination.arn}/*"] }
      }
    },
  ]
}
