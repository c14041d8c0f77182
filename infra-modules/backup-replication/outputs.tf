output "role_arn" {
  description = "Role with which S3 replicates, for key policies."
  value       = aws_iam_role.this.arn
}

output "rule" {
  description = "Dimensions of the replication metrics, for alarms."
  value = {
    bucket      = aws_s3_bucket_replication_configuration.this.bucket
    destination = element(split(":", var.destination.arn), 5)
    rule        = aws_s3_bucket_replication_configuration.this.rule[0].id
  }
}
