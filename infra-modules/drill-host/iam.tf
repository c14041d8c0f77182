# Permissions of the host: read the backups and the identity. It writes nothing.

resource "aws_iam_role_policy" "restore" {
  name   = "restore"
  role   = module.host.role_name
  policy = data.aws_iam_policy_document.restore.json
}

data "aws_iam_policy_document" "restore" {
  statement {
    sid       = "Backups"
    actions   = ["s3:GetObject"]
    resources = [for bucket in var.backup.bucket_arns : "${bucket}/${var.cluster}/*"]
  }

  # Without it S3 responds 403 for a missing object, not 404.
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = var.backup.bucket_arns
  }

  statement {
    sid       = "BackupKeys"
    actions   = ["kms:Decrypt"]
    resources = var.backup.kms_key_arns
    condition {
      test     = "StringLike"
      variable = "kms:ViaService"
      values   = ["s3.*.amazonaws.com"]
    }
  }

  statement {
    sid       = "Identity"
    actions   = ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"]
    resources = [var.identity_secret_arn]
  }

  statement {
    sid       = "IdentityKey"
    actions   = ["kms:Decrypt"]
    resources = [var.kms_key_arn]
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["secretsmanager.${data.aws_region.this.region}.amazonaws.com"]
    }
  }
}
