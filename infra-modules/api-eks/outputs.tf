output "cluster_name" {
  description = "The cluster, for `aws eks update-kubeconfig` and the pipeline."
  value       = aws_eks_cluster.this.name
}

output "cluster_endpoint" {
  description = "Endpoint of the Kubernetes API."
  value       = aws_eks_cluster.this.endpoint
}

output "oidc_provider_arn" {
  description = "OIDC provider of the service accounts, for controllers with IRSA."
  value       = aws_iam_openid_connect_provider.this.arn
}

output "api_role_arn" {
  description = "Role that may read the API's secrets."
  value       = aws_iam_role.this["api"].arn
}

output "security_group_id" {
  description = "Security group of nodes and pods, for the rules of database and cache."
  value       = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
}

output "chart_values" {
  description = "Values for charts/api, except for the image's version: `helm upgrade --values`."
  value = {
    image     = { repository = var.image_repository }
    readiness = { path = var.health_check_path }
    database = {
      hosts    = var.database.hosts
      port     = var.database.port
      name     = var.database.name
      user     = var.database.user
      ca       = { certificate = var.database.ca_certificate_pem == null ? "" : var.database.ca_certificate_pem }
      password = { remoteRef = var.database.password_secret_arn }
    }
    migration = {
      enabled  = var.migration.enabled
      user     = var.migration.user
      password = { remoteRef = var.migration.password_secret_arn }
    }
    redis = {
      host     = var.redis == null ? "" : var.redis.host
      port     = var.redis == null ? 6379 : var.redis.port
      password = { remoteRef = var.redis == null ? "" : var.redis.auth_secret_arn }
    }
    externalSecrets = { store = { kind = "ClusterSecretStore", name = "aws-secrets-manager" } }
    networkPolicy = {
      databaseCidrs = var.database.cidrs
      redisCidrs    = var.redis == null ? [] : var.redis.cidrs
    }
  }
}
