# Permissions of a node: the calls of failover-ctl, backup-agent and the SSM agent, on this cluster's resources.
# Each node has its own role, so that it cannot stop itself, CloudTrail distinguishes its calls, and it can be denied
# everything separately.

data "aws_caller_identity" "this" {}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

# IAM is global, and node names are unique. The buckets match the roles by name prefix: adding a node changes no
# policy but its own.
resource "aws_iam_role" "node" {
  for_each = var.nodes

  name                 = "${var.name}-postgres-${each.key}"
  description          = "Database node ${each.key} of ${var.name}"
  assume_role_policy   = data.aws_iam_policy_document.assume.json
  permissions_boundary = var.permissions_boundary
}

resource "aws_iam_instance_profile" "node" {
  for_each = var.nodes

  name = aws_iam_role.node[each.key].name
  role = aws_iam_role.node[each.key].name
}

resource "aws_iam_role_policy_attachment" "session_manager" {
  for_each = var.nodes

  role       = aws_iam_role.node[each.key].name
  policy_arn = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

resource "aws_iam_role_policy" "storage" {
  for_each = var.nodes

  name   = "storage"
  role   = aws_iam_role.node[each.key].name
  policy = data.aws_iam_policy_document.storage.json
}

resource "aws_iam_role_policy" "failover" {
  for_each = var.nodes

  name   = "failover"
  role   = aws_iam_role.node[each.key].name
  policy = data.aws_iam_policy_document.failover[each.key].json
}

# No statement allows a node to delete: objects survive a compromised node.
data "aws_iam_policy_document" "storage" {
  statement {
    sid       = "Lease"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${var.lease.bucket_arn}/clusters/${var.cluster}/*"]
  }

  statement {
    sid       = "Backups"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
    resources = [for bucket in var.backup.bucket_arns : "${bucket}/${var.cluster}/*"]
  }

  # Without permission to list the whole bucket, S3 responds 403 for a missing object, not 404. The lease and the
  # archive must tell these apart.
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = concat([var.lease.bucket_arn], var.backup.bucket_arns)
  }

  statement {
    sid       = "BackupKeys"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = var.backup.kms_key_arns
    condition {
      test     = "StringLike"
      variable = "kms:ViaService"
      values   = ["s3.*.amazonaws.com"]
    }
  }

  # AmazonSSMManagedInstanceCore grants every parameter of the account. This takes away all but the platform's own and AWS's.
  statement {
    sid     = "NoParametersOfOthers"
    effect  = "Deny"
    actions = ["ssm:GetParameter", "ssm:GetParameters"]
    not_resources = [
      "arn:aws:ssm:*:${data.aws_caller_identity.this.account_id}:parameter/${var.name}/*",
      "arn:aws:ssm:*::parameter/aws/service/*",
    ]
  }

  dynamic "statement" {
    for_each = length(var.secret_arns) > 0 ? [var.secret_arns] : []
    content {
      sid       = "Secrets"
      actions   = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
      resources = statement.value
    }
  }

  dynamic "statement" {
    for_each = length(var.secret_arns) > 0 ? [concat([var.kms_key_arn], var.secret_kms_key_arns)] : []
    content {
      sid       = "SecretsKeys"
      actions   = ["kms:Decrypt"]
      resources = statement.value
      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = ["secretsmanager.${data.aws_region.this.region}.amazonaws.com"]
      }
    }
  }
}

locals {
  zones = { for label, zone in { writer = var.dns, api = var.api_dns } : label => zone if zone != null }

  # Each record and its epoch record, as Route 53 normalises names in policies.
  records = {
    for label, zone in local.zones : label => flatten([
      for record in zone.record_names : [for prefix in ["", "_epoch."] : lower("${prefix}${trimsuffix(record, ".")}")]
    ])
  }
}

data "aws_iam_policy_document" "failover" {
  for_each = var.nodes

  # The other nodes, by their tags: this module does not have the other region's instance ids, and a replaced instance
  # has a new one. Nodes may not change tags.
  statement {
    sid       = "Fence"
    actions   = ["ec2:StopInstances"]
    resources = ["arn:aws:ec2:*:${data.aws_caller_identity.this.account_id}:instance/*"]
    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/Cluster"
      values   = [local.cluster_tag]
    }
    condition {
      test     = "StringNotEquals"
      variable = "aws:ResourceTag/Node"
      values   = [each.key]
    }
  }

  # The action has no resource-level permissions.
  statement {
    sid       = "SeeWhetherFenced"
    actions   = ["ec2:DescribeInstances"]
    resources = ["*"]
  }

  # A move is one batch of all three actions, and one statement has to allow the whole batch.
  dynamic "statement" {
    for_each = local.zones
    content {
      sid       = "Move${title(statement.key)}Record"
      actions   = ["route53:ChangeResourceRecordSets"]
      resources = ["arn:aws:route53:::hostedzone/${statement.value.zone_id}"]
      condition {
        test     = "ForAllValues:StringEquals"
        variable = "route53:ChangeResourceRecordSetsNormalizedRecordNames"
        values   = local.records[statement.key]
      }
      condition {
        test     = "ForAllValues:StringEquals"
        variable = "route53:ChangeResourceRecordSetsRecordTypes"
        values   = ["A", "AAAA", "CNAME", "TXT"]
      }
      condition {
        test     = "ForAllValues:StringEquals"
        variable = "route53:ChangeResourceRecordSetsActions"
        values   = ["CREATE", "DELETE", "UPSERT"]
      }
    }
  }

  dynamic "statement" {
    for_each = length(local.zones) > 0 ? [local.zones] : []
    content {
      sid       = "ReadRecords"
      actions   = ["route53:ListResourceRecordSets"]
      resources = distinct([for zone in statement.value : "arn:aws:route53:::hostedzone/${zone.zone_id}"])
    }
  }

  dynamic "statement" {
    for_each = length(local.zones) > 0 ? [1] : []
    content {
      sid       = "SeeWhetherMoved"
      actions   = ["route53:GetChange"]
      resources = ["arn:aws:route53:::change/*"]
    }
  }
}
