output "load_balancer" {
  description = "The load balancer, for the records of the API and the alarms."
  value = {
    dns_name   = aws_lb.this.dns_name
    zone_id    = aws_lb.this.zone_id
    arn        = aws_lb.this.arn
    arn_suffix = aws_lb.this.arn_suffix
  }
}

output "target_group_arn_suffixes" {
  description = "The target groups, for the alarms."
  value       = [for it in aws_lb_target_group.this : it.arn_suffix]
}

output "security_group_id" {
  description = "The group of the tasks, which the database and the cache let in."
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
  description = "The newest task definition of Terraform's, from which the pipeline makes its own."
  value       = aws_ecs_task_definition.service.arn
}

output "migration_task_definition_arn" {
  description = "The task definition of the migration, which the pipeline runs before a deployment."
  value       = aws_ecs_task_definition.migration.arn
}

output "migration_family" {
  description = "The family of that task definition, of which the pipeline takes the newest revision."
  value       = aws_ecs_task_definition.migration.family
}

output "log_group_name" {
  description = "Where the API logs."
  value       = aws_cloudwatch_log_group.this.name
}
