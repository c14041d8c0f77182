# Permissions of the host: list the tasks of the API, and publish alerts to the region's topic.

data "aws_caller_identity" "this" {}

locals {
  ecs = "arn:aws:ecs:${data.aws_region.this.region}:${data.aws_caller_identity.this.account_id}"
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
  # IAM is global; the name contains the region.
  name                 = "${var.name}-monitoring-${data.aws_region.this.region}"
  description          = "Prometheus and Alertmanager of ${var.name} in ${data.aws_region.this.region}"
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

resource "aws_iam_role_policy" "monitor" {
  name   = "monitor"
  role   = aws_iam_role.this.name
  policy = data.aws_iam_policy_document.monitor.json
}

data "aws_iam_policy_document" "monitor" {
  # The action has no resource of a task; the cluster limits it.
  dynamic "statement" {
    for_each = var.ecs_cluster_name[*]
    content {
      sid       = "ListTasks"
      actions   = ["ecs:ListTasks"]
      resources = ["*"]
      condition {
        test     = "ArnEquals"
        variable = "ecs:cluster"
        values   = ["${local.ecs}:cluster/${statement.value}"]
      }
    }
  }

  dynamic "statement" {
    for_each = var.ecs_cluster_name[*]
    content {
      sid       = "AddressesOfTasks"
      actions   = ["ecs:DescribeTasks"]
      resources = ["${local.ecs}:task/${statement.value}/*"]
    }
  }

  statement {
    sid       = "Alerts"
    actions   = ["sns:Publish"]
    resources = [var.alarm_topic_arn]
  }

  statement {
    sid       = "AlertsKey"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.kms_key_arn]
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["sns.${data.aws_region.this.region}.amazonaws.com"]
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
