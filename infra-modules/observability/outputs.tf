output "topic_arn" {
  description = "Topic for the alarms of other modules."
  value       = aws_sns_topic.alarms.arn
}
