output "topic_arn" {
  description = "Where alarms of other modules go."
  value       = aws_sns_topic.alarms.arn
}
