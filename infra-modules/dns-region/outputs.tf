output "health_check_id" {
  description = "Health check, for an alarm; null without an API."
  value       = one(aws_route53_health_check.this[*].id)
}
