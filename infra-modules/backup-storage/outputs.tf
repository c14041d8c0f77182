output "bucket" {
  description = "Name of the bucket, for `[[buckets]]` in backup-agent.toml. Available once lock, encryption and policy are in force."
  value       = aws_s3_bucket.this.bucket
  depends_on = [
    aws_s3_bucket_object_lock_configuration.this,
    aws_s3_bucket_policy.this,
    aws_s3_bucket_server_side_encryption_configuration.this,
  ]
}

output "arn" {
  description = "ARN of the bucket, for the nodes' policies and for replication."
  value       = local.arn
}

output "expirer_role_arn" {
  description = "Role that deletes expired backups; null without one."
  value       = var.expirer == null ? null : local.expirer_arn
}

output "kms_key_arn" {
  description = "The key, for the nodes' policies and for replication."
  value       = var.kms_key_arn
}
