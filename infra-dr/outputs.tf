output "parameters" {
  description = "Names of the parameters for Ansible, failover-ctl and backup-agent in this region, for `aws ssm get-parameter --name`."
  value       = module.parameters.names
}

output "nodes" {
  description = "The database nodes of this region: instance, address and volumes."
  value       = module.postgres.nodes
}

output "restore_drill" {
  description = "The drill host and the secret for its identity file; null without one."
  value = var.restore_drill == null ? null : {
    instance_id = module.drill_host[0].instance_id
    identity    = module.drill_secrets[0].arns["restore-drill-identity"]
  }
}

output "api_url" {
  description = "URL of this region's API, whichever region is primary; null without one."
  value       = local.has_load_balancer ? "https://${local.regional_name}" : null
}

output "certificate_arn" {
  description = "The certificate of the API, for the chart's Ingress; null without an API."
  value       = one(module.certificate[*].arn)
}

output "chart_values" {
  description = "Values for charts/api on EKS: `terraform output -json chart_values`; null on another platform."
  value       = one(module.api_eks[*].chart_values)
}

output "controller_values" {
  description = "Values for the charts of the controllers on EKS, by their name; null on another platform."
  value       = one(module.api_eks[*].controller_values)
}

output "cluster_secret_store" {
  description = "Manifest of the store for the External Secrets Operator on EKS; null on another platform."
  value       = one(module.api_eks[*].cluster_secret_store)
}

output "api_tasks" {
  description = "Number of API tasks on ECS, standby or `active`; null on another platform."
  value       = local.tasks
}

output "backup_expirer_role_arn" {
  description = "Role with which operators delete expired backups of this region's bucket; null without `backup.expirer` in infra-primary."
  value       = module.backup_storage.expirer_role_arn
}
