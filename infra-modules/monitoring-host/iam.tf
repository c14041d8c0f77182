# Permissions of the host: list the tasks of the API, and publish alerts to the region's topic.

data "aws_caller_identity" "this" {}

locals {
  ecs = "arn:aws:ecs:${data.aws_region.this.region}:${data.aws_caller_identity.this.account_id}"
}

resource "aws_iam_role_policy" "monitor" {
  name   = "monitor"
  role   = module.host.role_name
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
}
