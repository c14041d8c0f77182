# The public name, as the internet sees it. The metrics of health checks are in us-east-1 alone, and an alarm notifies
# topics of its own region only.

locals {
  has_alarm = var.api != null && length(var.alarm_emails) > 0
}

resource "aws_sns_topic" "health_check" {
  #checkov:skip=CKV_AWS_26:Its messages are the state of a public name; a key of us-east-1 would serve nothing else.
  count  = local.has_alarm ? 1 : 0
  region = "us-east-1"

  name         = "${var.name}-health-check-${lower(var.role)}"
  display_name = "Public API of ${var.name}"

  tags = { Name = "${var.name}-health-check-${lower(var.role)}" }
}

resource "aws_sns_topic_subscription" "health_check" {
  for_each = toset(local.has_alarm ? var.alarm_emails : [])
  region   = "us-east-1"

  topic_arn = aws_sns_topic.health_check[0].arn
  protocol  = "email"
  endpoint  = each.value
}

resource "aws_cloudwatch_metric_alarm" "health_check" {
  count  = local.has_alarm ? 1 : 0
  region = "us-east-1"

  alarm_name          = "${var.name}-health-check-${lower(var.role)}"
  alarm_description   = "${var.record_name} is unhealthy in this region, seen from the internet: the API, its load balancer, its name or its certificate. With another healthy region, Route 53 sends clients there."
  namespace           = "AWS/Route53"
  metric_name         = "HealthCheckStatus"
  dimensions          = { HealthCheckId = aws_route53_health_check.this[0].id }
  statistic           = "Minimum"
  period              = 60
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.health_check[0].arn]
  ok_actions          = [aws_sns_topic.health_check[0].arn]

  tags = { Name = "${var.name}-health-check-${lower(var.role)}" }
}
