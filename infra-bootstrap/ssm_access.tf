# Permissions of `drill` and `operate`: reach hosts over Systems Manager. Instances are selected by their tags,
# which `apply` sets. A session on a host is root.

# A command on the drill hosts, and its result.
data "aws_iam_policy_document" "drill" {
  # checkov:skip=CKV_AWS_111: ssm:CancelCommand has no resource; the region limits it
  # checkov:skip=CKV_AWS_356: ssm:GetCommandInvocation has none either
  statement {
    sid       = "Parameter"
    actions   = ["ssm:GetParameter"]
    resources = [for name in local.names : "${local.arn}:ssm:${var.regions.state}:${local.account}:parameter/${name}/dr/restore-drill"]
  }

  statement {
    sid       = "Document"
    actions   = ["ssm:SendCommand"]
    resources = ["${local.arn}:ssm:${var.regions.dr}::document/AWS-RunShellScript"]
  }

  statement {
    sid       = "Host"
    actions   = ["ssm:SendCommand"]
    resources = ["${local.arn}:ec2:${var.regions.dr}:${local.account}:instance/*"]

    condition {
      test     = "StringEquals"
      variable = "ssm:resourceTag/project"
      values   = [var.project]
    }

    condition {
      test     = "StringEquals"
      variable = "ssm:resourceTag/Role"
      values   = ["restore-drill"]
    }
  }

  statement {
    sid       = "Outcome"
    actions   = ["ssm:CancelCommand", "ssm:GetCommandInvocation"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = [var.regions.dr]
    }
  }
}

# Permissions for Ansible's connection plugin aws_ssm: a session on the hosts of one environment, and the bucket
# for its file transfers.
data "aws_iam_policy_document" "operate" {
  # checkov:skip=CKV_AWS_356: ec2:DescribeInstances has no resource; the region limits it
  for_each = local.names

  statement {
    sid       = "Inventory"
    actions   = ["ec2:DescribeInstances"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = local.database_regions
    }
  }

  statement {
    sid     = "Parameters"
    actions = ["ssm:GetParameter", "ssm:GetParameters", "ssm:GetParametersByPath"]
    resources = [
      for path in [each.value, "${each.value}/*"] : "${local.arn}:ssm:*:${local.account}:parameter/${path}"
    ]
  }

  statement {
    sid       = "Shell"
    actions   = ["ssm:StartSession"]
    resources = [for region in local.database_regions : "${local.arn}:ssm:${region}:${local.account}:document/SSM-SessionManagerRunShell"]
  }

  statement {
    sid       = "Hosts"
    actions   = ["ssm:StartSession"]
    resources = [for region in local.database_regions : "${local.arn}:ec2:${region}:${local.account}:instance/*"]

    dynamic "condition" {
      for_each = { project = [var.project], environment = [each.key], Role = ["postgres", "restore-drill"] }

      content {
        test     = "StringEquals"
        variable = "ssm:resourceTag/${condition.key}"
        values   = condition.value
      }
    }
  }

  # A session is named after the role session that starts it; the workflow names that `<name>-ansible`.
  statement {
    sid       = "OwnSessions"
    actions   = ["ssm:ResumeSession", "ssm:TerminateSession", "ssmmessages:OpenDataChannel"]
    resources = [for region in local.database_regions : "${local.arn}:ssm:${region}:${local.account}:session/${each.value}-ansible-*"]
  }

  statement {
    sid       = "Transfer"
    actions   = ["s3:GetBucketLocation", "s3:ListBucket"]
    resources = [for region in local.database_regions : aws_s3_bucket.transfer["${each.key} ${region}"].arn]
  }

  statement {
    sid       = "TransferFiles"
    actions   = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
    resources = [for region in local.database_regions : "${aws_s3_bucket.transfer["${each.key} ${region}"].arn}/*"]
  }
}
