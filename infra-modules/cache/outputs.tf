output "host" {
  description = "The name behind which the primary is, for `REDIS_HOST`."
  value       = aws_elasticache_replication_group.this.primary_endpoint_address
}

output "port" {
  description = "Its port, for `REDIS_PORT`."
  value       = local.port
}

output "auth_secret_arn" {
  description = "The secret of its password, for `REDIS_PASSWORD`."
  value       = aws_secretsmanager_secret_version.token.secret_arn
}

output "security_group_id" {
  description = "The group of the cache, for the API's way out."
  value       = aws_security_group.this.id
}
