# AWS Health events (maintenance, retirement, outages) and stops of nodes: sent to the topic and logged.

data "aws_region" "this" {}

resource "aws_cloudwatch_log_group" "health_events" {
  name              = "/aws/events/${var.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
}

locals {
  health_events = merge(
    { health = { description = "Maintenance, retirement and outages", pattern = { source = ["aws.health"] } } },
    length(var.instances) == 0 ? {} : {
      stopped = {
        description = "Nodes that stop"
        pattern = {
          source      = ["aws.ec2"]
          detail-type = ["EC2 Instance State-change Notification"]
          detail      = { instance-id = values(var.instances), state = ["stopping", "stopped", "shutting-down", "terminated"] }
        }
      }
    },
  )
}

resource "aws_cloudwatch_event_rule" "health" {
  for_each = local.health_events

  name          = "${var.name}-${each.key}"
  description   = each.value.description
  event_pattern = jsonencode(each.value.pattern)
}

resource "aws_cloudwatch_event_target" "topic" {
  for_each = local.health_events

  rule = aws_cloudwatch_event_rule.health[each.key].name
  arn  = aws_sns_topic.alarms.arn
}

resource "aws_cloudwatch_event_target" "log" {
  for_each = local.health_events

  rule = aws_cloudwatch_event_rule.health[each.key].name
  arn  = aws_cloudwatch_log_group.health_events.arn
}

resource "aws_cloudwatch_log_resource_policy" "health_events" {
  policy_name     = "${var.name}-health-events"
  policy_document = data.aws_iam_policy_document.health_events.json
}

data "aws_iam_policy_document" "health_events" {
  # EventBridge names no rule in this call: a condition on it would keep the group empty.
  statement {
    sid       = "CreateLogStreams"
    actions   = ["logs:CreateLogStream"]
    resources = ["${aws_cloudwatch_log_group.health_events.arn}:*"]
    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com", "delivery.logs.amazonaws.com"]
    }
  }

  statement {
    sid       = "WriteHealthEvents"
    actions   = ["logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.health_events.arn}:*"]
    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com", "delivery.logs.amazonaws.com"]
    }
    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:aws:events:${data.aws_region.this.region}:${data.aws_caller_identity.this.account_id}:rule/${var.name}-*"]
    }
  }
}
