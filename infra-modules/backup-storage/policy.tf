# The policy only denies, so no role needs to exist before it, and no grant elsewhere overrides it.
# Replication (s3:ReplicateObject) and lifecycle rules are not subject to it.

locals {
  readers = concat(var.writer_role_arns, var.reader_role_arns)

  statements = concat([
    {
      Sid       = "DenyWithoutTls"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [local.arn, "${local.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    },
    {
      Sid       = "DenyOtherWriters"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:PutObject"
      Resource  = "${local.arn}/*"
      Condition = { ArnNotLike = { "aws:PrincipalArn" = var.writer_role_arns } }
    },
    {
      Sid       = "DenyOtherReaders"
      Effect    = "Deny"
      Principal = "*"
      Action    = ["s3:GetObject", "s3:GetObjectVersion"]
      Resource  = "${local.arn}/*"
      Condition = { ArnNotLike = { "aws:PrincipalArn" = local.readers } }
    },
    # Objects are never overwritten. The second condition exempts the parts of a multipart upload, which cannot have
    # the header; its completion must have it.
    {
      Sid       = "DenyOverwriting"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:PutObject"
      Resource  = "${local.arn}/*"
      Condition = {
        Null = { "s3:if-none-match" = "true" }
        Bool = { "s3:ObjectCreationOperation" = "true" }
      }
    },
    # A request without encryption gets the bucket's; one with another is denied.
    {
      Sid       = "DenyOtherEncryption"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:PutObject"
      Resource  = "${local.arn}/*"
      Condition = {
        Null            = { "s3:x-amz-server-side-encryption" = "false" }
        StringNotEquals = { "s3:x-amz-server-side-encryption" = "aws:kms" }
      }
    },
    {
      Sid       = "DenyOtherKeys"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:PutObject"
      Resource  = "${local.arn}/*"
      Condition = {
        Null         = { "s3:x-amz-server-side-encryption-aws-kms-key-id" = "false" }
        ArnNotEquals = { "s3:x-amz-server-side-encryption-aws-kms-key-id" = var.kms_key_arn }
      }
    },
    # A compromised host cannot delete the backups.
    {
      Sid       = "DenyDeletion"
      Effect    = "Deny"
      Principal = "*"
      Action = [
        "s3:BypassGovernanceRetention", "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutObjectLegalHold", "s3:PutObjectRetention",
      ]
      Resource  = "${local.arn}/*"
      Condition = { ArnLike = { "aws:PrincipalArn" = local.readers } }
    },
    ], var.expirer == null ? [] : [
    {
      Sid       = "DenyOtherDeleters"
      Effect    = "Deny"
      Principal = "*"
      Action    = ["s3:DeleteObject"]
      Resource  = "${local.arn}/*"
      Condition = { ArnNotLike = { "aws:PrincipalArn" = [local.expirer_arn] } }
    },
  ])
}

resource "aws_s3_bucket_policy" "this" {
  bucket = aws_s3_bucket.this.id
  policy = jsonencode({ Version = "2012-10-17", Statement = local.statements })

  # S3 rejects concurrent changes of one bucket's access settings.
  depends_on = [aws_s3_bucket_public_access_block.this, aws_s3_bucket_ownership_controls.this]
}
