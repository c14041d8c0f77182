output "load_balancer" {
  description = "The load balancer, for the records of the API and the alarms."
  value = {
    dns_name   = aws_lb.this.dns_name
    zone_id    = aws_lb.this.zone_id
    arn        = aws_lb.this.arn
    arn_suffix = aws_lb.this.arn_suffix
  }
}

output "security_group_id" {
  description = "Security group of the tasks, for the rules of database and cache."
  value       = aws_security_group.task.id
}

output "cluster_name" {
  description = "The ECS cluster, for the pipeline."
  value       = aws_ecs_cluster.this.name
}

output "service_name" {
  description = "The ECS service, for the pipeline."
  value       = aws_ecs_service.this.name
}

output "task_definition_arn" {
  description = "Terraform's newest task definition, the base of the pipeline's revisions."
  value       = aws_ecs_task_definition.service.arn
}

output "migration_task_definition_arn" {
  description = "Task definition of the migration, which the pipeline runs before a deployment."
  value       = aws_ecs_task_definition.migration.arn
}

output "migration_family" {
  description = "Family of that task definition; the pipeline takes its newest revision."
  value       = aws_ecs_task_definition.migration.family
}

output "log_group_name" {
  description = "Log group of the API."
  value       = aws_cloudwatch_log_group.this.name
}
