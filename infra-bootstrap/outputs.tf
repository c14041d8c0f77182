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
  description = "Roles of the workflows: plan, drift, drill and push, and apply, deploy and operate of each environment."
  value       = { for k, r in aws_iam_role.pipeline : k => r.arn }
}

output "github_variables" {
  description = "All variables of the workflows, none of them secret: of the repository, and of each GitHub environment. `scripts/deploy/github-variables` sets them."
  value = {
    repository = {
      PROJECT          = var.project
      ENVIRONMENTS     = jsonencode(var.environments)
      PRIMARY_REGION   = var.regions.primary
      DR_REGION        = var.regions.dr
      STATE_BUCKET     = aws_s3_bucket.state.bucket
      STATE_REGION     = var.regions.state
      STATE_KMS_KEY    = aws_kms_key.state.arn
      PLAN_ROLE        = aws_iam_role.pipeline["plan"].arn
      DRIFT_ROLE       = aws_iam_role.pipeline["drift"].arn
      IMAGE_REPOSITORY = aws_ecr_repository.api[var.regions.primary].repository_url
      IMAGE_CACHE      = aws_ecr_repository.cache.repository_url
    }
    environments = merge(
      { release = { PUSH_ROLE = aws_iam_role.pipeline["push"].arn }, restore-drill = { DRILL_ROLE = aws_iam_role.pipeline["drill"].arn } },
      { for e in var.environments : "${e}-infra" => { APPLY_ROLE = aws_iam_role.pipeline["apply-${e}"].arn } },
      { for e in var.environments : e => { DEPLOY_ROLE = aws_iam_role.pipeline["deploy-${e}"].arn } },
      { for e in var.environments : "${e}-hosts" => { OPERATE_ROLE = aws_iam_role.pipeline["operate-${e}"].arn } },
    )
  }
}

output "workload_boundary_arns" {
  description = "Permissions boundary of every role of infra-primary and infra-dr, by environment; their input `permissions_boundary`."
  value       = { for e, boundary in aws_iam_policy.workload_boundary : e => boundary.arn }
}

output "repository_urls" {
  description = "Repository URL of the API's image, by region. Push to the primary region's."
  value       = { for region, r in aws_ecr_repository.api : region => r.repository_url }
}

output "cache_url" {
  description = "Repository URL of the build cache: `cache-to` and `cache-from` of buildx."
  value       = aws_ecr_repository.cache.repository_url
}

output "image_builder_profile" {
  description = "Instance profile of the nodes' image builder: `--profile` of scripts/node/image."
  value       = aws_iam_instance_profile.image_builder.name
}
