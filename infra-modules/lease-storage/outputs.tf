output "bucket" {
  description = "Name of the bucket, for `[lease]` in failover-ctl.toml. Available once the policy is in force."
  value       = aws_s3_bucket.this.bucket
  depends_on  = [aws_s3_bucket_policy.this, aws_s3_bucket_versioning.this]
}

output "arn" {
  description = "ARN of the bucket, for the nodes' policies."
  value       = local.arn
}

output "region" {
  description = "Region of the bucket, for `[lease]` in failover-ctl.toml."
  value       = data.aws_region.current.region
}
