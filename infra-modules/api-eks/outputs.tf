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

output "controller_role_arns" {
  description = "Roles of the controllers: `secrets` reads the API's secrets, `load-balancer` and `autoscaler`. Pod Identity gives each to its service account."
  value       = { for name in keys(local.controllers) : name => aws_iam_role.this[name].arn }
}

output "security_group_id" {
  description = "Security group of nodes and pods, for the rules of database and cache."
  value       = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
}

output "chart_values" {
  description = "Values for charts/api, except for the image's version: `helm upgrade --values`."
  value       = local.chart_values
}

output "controller_values" {
  description = "Values for the charts of the controllers, by their name: `helm upgrade --values`."
  value       = local.controller_values
}

output "cluster_secret_store" {
  description = "Manifest of the store that `chart_values` names, for the External Secrets Operator: `kubectl apply`."
  value       = local.cluster_secret_store
}
