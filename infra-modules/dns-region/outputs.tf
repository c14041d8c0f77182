output "health_check_id" {
  description = "The health check, for an alarm on it; null without an API."
  value       = one(aws_route53_health_check.this[*].id)
}
