# The policy only denies, so no role needs to exist before it, and no grant elsewhere overrides it. Lifecycle rules
# are not subject to it.

locals {
  writers = concat(var.node_role_arns, var.operator_role_arns)

  statements = [
    {
      Sid       = "DenyWithoutTls"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [local.arn, "${local.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    },
    # Conditions of one operator must all be true, so this denies requests with neither header. A multipart upload has
    # none when it begins, so it is denied as well: the lease is one small object.
    {
      Sid       = "DenyUnconditionalWrites"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:PutObject"
      Resource  = "${local.arn}/*"
      Condition = { Null = { "s3:if-match" = "true", "s3:if-none-match" = "true" } }
    },
    {
      Sid       = "DenyOtherWriters"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:PutObject"
      Resource  = "${local.arn}/*"
      Condition = { ArnNotLike = { "aws:PrincipalArn" = local.writers } }
    },
    {
      Sid         = "DenyOtherKeys"
      Effect      = "Deny"
      Principal   = "*"
      Action      = "s3:PutObject"
      NotResource = "${local.arn}/clusters/${var.cluster}/*"
    },
    # A missing lease is not a free one, and needs an operator. So no principal may delete it.
    {
      Sid       = "DenyDeletion"
      Effect    = "Deny"
      Principal = "*"
      Action    = ["s3:DeleteObject", "s3:DeleteObjectVersion"]
      Resource  = "${local.arn}/*"
    },
  ]
}

resource "aws_s3_bucket_policy" "this" {
  bucket = aws_s3_bucket.this.id
  policy = jsonencode({ Version = "2012-10-17", Statement = local.statements })

  # S3 rejects concurrent changes of one bucket's access settings.
  depends_on = [aws_s3_bucket_public_access_block.this, aws_s3_bucket_ownership_controls.this]
}
