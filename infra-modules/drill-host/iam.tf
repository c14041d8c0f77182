# Permissions of the host: read the backups and the identity. It writes nothing.

data "aws_caller_identity" "this" {}

locals {
  # IAM is global; the name contains the region.
  role_name = "${var.name}-restore-drill-${data.aws_region.this.region}"
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "this" {
  name                 = local.role_name
  description          = "Drill host of ${var.name} in ${data.aws_region.this.region}"
  assume_role_policy   = data.aws_iam_policy_document.assume.json
  permissions_boundary = var.permissions_boundary
}

resource "aws_iam_instance_profile" "this" {
  name = aws_iam_role.this.name
  role = aws_iam_role.this.name
}

resource "aws_iam_role_policy_attachment" "session_manager" {
  role       = aws_iam_role.this.name
  policy_arn = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

resource "aws_iam_role_policy" "restore" {
  name   = "restore"
  role   = aws_iam_role.this.name
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

  # Not AmazonSSMManagedInstanceCore, which grants every parameter of the account.
  statement {
    sid     = "NoParametersOfOthers"
    effect  = "Deny"
    actions = ["ssm:GetParameter", "ssm:GetParameters"]
    not_resources = [
      "arn:aws:ssm:*:${data.aws_caller_identity.this.account_id}:parameter/${var.name}/*",
      "arn:aws:ssm:*::parameter/aws/service/*",
    ]
  }
}
