output "parameters" {
  description = "Names of the parameters for Ansible, failover-ctl and backup-agent in this region, for `aws ssm get-parameter --name`."
  value       = module.parameters.names
}

output "nodes" {
  description = "The database nodes of this region: instance, address and volumes."
  value       = module.postgres.nodes
}

output "name_servers" {
  description = "Name servers for the registrar, if the public zone was created here."
  value       = module.dns.public_name_servers
}

output "api_url" {
  description = "URL of the API, which follows the primary; null without one."
  value       = local.has_load_balancer ? "https://${module.dns.names.api}" : null
}

output "certificate_arn" {
  description = "The certificate of the API, for the chart's Ingress; null without an API."
  value       = one(module.certificate[*].arn)
}

output "chart_values" {
  description = "Values for charts/api on EKS: `terraform output -json chart_values`; null on another platform."
  value       = one(module.api_eks[*].chart_values)
}

output "backup_expirer_role_arn" {
  description = "Role with which operators delete expired backups of this region's bucket; null without `backup.expirer`."
  value       = module.backup_storage.expirer_role_arn
}

output "controller_values" {
  description = "Values for the charts of the controllers on EKS, by their name; null on another platform."
  value       = one(module.api_eks[*].controller_values)
}

output "cluster_secret_store" {
  description = "Manifest of the store for the External Secrets Operator on EKS; null on another platform."
  value       = one(module.api_eks[*].cluster_secret_store)
}
