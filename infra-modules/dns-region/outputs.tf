output "health_check_id" {
  description = "The health check, for an alarm on it."
  value       = aws_route53_health_check.this.id
}
