# A node whose host fails is started again on another, with its address and its volumes.

resource "aws_cloudwatch_metric_alarm" "recover" {
  for_each = var.nodes

  alarm_name          = "${var.name}-${each.key}-recover"
  alarm_description   = "The host of ${each.key} fails: EC2 starts the node on another. The other nodes have long decided who is primary."
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
