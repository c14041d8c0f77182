output "state_bucket" {
  description = "For `terraform init -backend-config=bucket=…` of every root."
  value       = aws_s3_bucket.state.bucket
}

output "state_kms_key_arn" {
  description = "For `terraform init -backend-config=kms_key_id=…` of every root."
  value       = aws_kms_key.state.arn
}

output "state_region" {
  description = "For `terraform init -backend-config=region=…` of every root."
  value       = var.regions.state
}

output "role_arns" {
  description = "Roles of the workflows: plan, drift and drill, and apply, deploy and operate of each environment. Copy them into GitHub's variables."
  value       = { for k, r in aws_iam_role.pipeline : k => r.arn }
}

output "workload_boundary_arn" {
  description = "Permissions boundary of every role of infra-primary and infra-dr; their input `permissions_boundary`."
  value       = aws_iam_policy.workload_boundary.arn
}

output "repository_urls" {
  description = "Repository URL of the API's image, by region. Push to the primary region's."
  value       = { for region, r in aws_ecr_repository.api : region => r.repository_url }
}

output "cache_url" {
  description = "Repository URL of the build cache: `cache-to` and `cache-from` of buildx."
  value       = aws_ecr_repository.cache.repository_url
}

output "transfer_buckets" {
  description = "Buckets for Ansible's file transfers, by environment and region: `ansible_aws_ssm_bucket_name` of the hosts there."
  value = {
    for e in var.environments : e => { for region in local.database_regions : region => aws_s3_bucket.transfer["${e} ${region}"].bucket }
  }
}
