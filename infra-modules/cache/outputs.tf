output "host" {
  description = "Endpoint of the primary, for `REDIS_HOST`."
  value       = aws_elasticache_replication_group.this.primary_endpoint_address
}

output "port" {
  description = "Port, for `REDIS_PORT`."
  value       = local.port
}

output "auth_secret_arn" {
  description = "Secret of the password, for `REDIS_PASSWORD`."
  value       = aws_secretsmanager_secret_version.token.secret_arn
}

output "security_group_id" {
  description = "Security group of the cache, for the API's egress rule."
  value       = aws_security_group.this.id
}
