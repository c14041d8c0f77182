output "arns" {
  description = "ARNs by name, for the readers' policies."
  value       = { for name, secret in aws_secretsmanager_secret.this : name => secret.arn }
}

output "replica_arns" {
  description = "ARNs of the replicas by name; empty without a replica. They differ from the others only in the region."
  value = {
    for name, secret in aws_secretsmanager_secret.this : name => replace(
      secret.arn, ":${data.aws_region.current.region}:", ":${var.replica.region}:"
    ) if var.replica != null
  }
}
