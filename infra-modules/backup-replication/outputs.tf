output "role_arn" {
  description = "The role by which S3 copies, for a key policy that names its users."
  value       = aws_iam_role.this.arn
}

output "rule" {
  description = "What the metrics of the replication are called by, for alarms."
  value = {
    bucket      = aws_s3_bucket_replication_configuration.this.bucket
    destination = element(split(":", var.destination.arn), 5)
    rule        = aws_s3_bucket_replication_configuration.this.rule[0].id
  }
}
