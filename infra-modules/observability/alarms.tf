# Alarms that Prometheus cannot raise, because it runs on what they monitor.

locals {
  topic = [aws_sns_topic.alarms.arn]
}

# A stopped node reports nothing, which also raises the alarm.
resource "aws_cloudwatch_metric_alarm" "instance" {
  for_each = var.instances

  alarm_name          = "${var.name}-${each.key}-status"
  alarm_description   = "EC2 finds ${each.key} or its host impaired, or the node is stopped."
  namespace           = "AWS/EC2"
  metric_name         = "StatusCheckFailed"
  dimensions          = { InstanceId = each.value }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 2
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "breaching"
  alarm_actions       = local.topic
  ok_actions          = local.topic
}

locals {
  # Bucket names may be unknown at plan, so rules are indexed.
  rules = { for index, it in var.replication : tostring(index) => {
    name       = "${it.bucket} to ${it.destination}"
    dimensions = { SourceBucket = it.bucket, DestinationBucket = it.destination, RuleId = it.rule }
  } }
}

resource "aws_cloudwatch_metric_alarm" "replication_latency" {
  for_each = local.rules

  alarm_name          = "${var.name}-replication-latency-${each.key}"
  alarm_description   = "Replication of ${each.value.name} is more than ${var.replication_latency_seconds} s behind: backups are missing in the other region."
  namespace           = "AWS/S3"
  metric_name         = "ReplicationLatency"
  dimensions          = each.value.dimensions
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 5
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.replication_latency_seconds
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.topic
  ok_actions          = local.topic
}

resource "aws_cloudwatch_metric_alarm" "replication_failed" {
  for_each = local.rules

  alarm_name          = "${var.name}-replication-failed-${each.key}"
  alarm_description   = "S3 failed to replicate objects of ${each.value.name}, and does not retry."
  namespace           = "AWS/S3"
  metric_name         = "OperationsFailedReplication"
  dimensions          = each.value.dimensions
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.topic
  ok_actions          = local.topic
}

# S3 reports it once a day, all versions included.
resource "aws_cloudwatch_metric_alarm" "bucket_size" {
  for_each = var.bucket_sizes

  alarm_name          = "${var.name}-${each.key}-size"
  alarm_description   = "The ${each.key} bucket has more than ${each.value.alarm_gib} GiB: expired backups are not deleted, or the database has grown. Delete the expired ones, or raise the limit."
  namespace           = "AWS/S3"
  metric_name         = "BucketSizeBytes"
  dimensions          = { BucketName = each.value.bucket, StorageType = "StandardStorage" }
  statistic           = "Maximum"
  period              = 86400
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.alarm_gib * 1073741824
  treat_missing_data  = "ignore"
  alarm_actions       = local.topic
  ok_actions          = local.topic
}

resource "aws_cloudwatch_metric_alarm" "unanswered" {
  for_each = var.load_balancers

  alarm_name          = "${var.name}-${each.key}-unanswered"
  alarm_description   = "The load balancer of ${each.key} itself responds 5xx: no target accepted the request, or none responded."
  namespace           = "AWS/ApplicationELB"
  metric_name         = "HTTPCode_ELB_5XX_Count"
  dimensions          = { LoadBalancer = each.value.arn_suffix }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  comparison_operator = "GreaterThanThreshold"
  threshold           = 10
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.topic
  ok_actions          = local.topic
}
