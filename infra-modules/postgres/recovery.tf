# EC2 recovers a node whose host fails on another host, with its address and volumes.

resource "aws_cloudwatch_metric_alarm" "recover" {
  for_each = var.nodes

  alarm_name          = "${var.name}-${each.key}-recover"
  alarm_description   = "The host of ${each.key} failed: EC2 recovers the node on another. Failover does not wait for that."
  namespace           = "AWS/EC2"
  metric_name         = "StatusCheckFailed_System"
  dimensions          = { InstanceId = aws_instance.node[each.key].id }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 2
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = compact(["arn:aws:automate:${data.aws_region.this.region}:ec2:recover", var.alarm_topic_arn])
}
