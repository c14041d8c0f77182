resource "aws_ecs_cluster" "this" {
  name = var.name

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_ecs_service" "this" {
  name            = "${var.name}-api"
  cluster         = aws_ecs_cluster.this.id
  task_definition = aws_ecs_task_definition.service.arn
  launch_type     = "FARGATE"
  desired_count   = var.tasks.desired

  availability_zone_rebalancing      = "ENABLED"
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  # The API's wait for its database at start (DB_STARTUP_TIMEOUT), and the load balancer's first checks.
  health_check_grace_period_seconds = 60
  enable_ecs_managed_tags           = true
  propagate_tags                    = "SERVICE"

  network_configuration {
    subnets          = var.private_subnet_ids
    security_groups  = [aws_security_group.task.id]
    assign_public_ip = false
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.this["blue"].arn
    container_name   = local.container
    container_port   = local.port

    dynamic "advanced_configuration" {
      for_each = local.is_blue_green ? [1] : []
      content {
        alternate_target_group_arn = aws_lb_target_group.this["green"].arn
        production_listener_rule   = aws_lb_listener_rule.blue_green[0].arn
        role_arn                   = aws_iam_role.deployment[0].arn
      }
    }
  }

  deployment_configuration {
    strategy             = local.is_blue_green ? "BLUE_GREEN" : "ROLLING"
    bake_time_in_minutes = local.is_blue_green ? var.bake_time_minutes : null
  }

  # Counts tasks that fail to start. A blue/green deployment sends them no traffic, but would retry forever without it.
  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  alarms {
    enable      = true
    rollback    = true
    alarm_names = concat([aws_cloudwatch_metric_alarm.errors.alarm_name], [for it in aws_cloudwatch_metric_alarm.unhealthy : it.alarm_name])
  }

  # Autoscaling owns the number of tasks, and the pipeline the revision.
  lifecycle {
    ignore_changes = [desired_count, task_definition]
  }

  depends_on = [aws_lb_listener.https, aws_iam_role_policy.deployment, aws_iam_role_policy.execution]
}
