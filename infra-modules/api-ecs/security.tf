# Every client reaches the load balancer, only it reaches the tasks, and they reach only their dependencies.

resource "aws_security_group" "balancer" {
  name        = "${var.name}-api-balancer"
  description = "Load balancer of the API of ${var.name}"
  vpc_id      = var.vpc_id
  tags        = { Name = "${var.name}-api-balancer" }
}

resource "aws_security_group" "task" {
  name        = "${var.name}-api"
  description = "Tasks of the API of ${var.name}"
  vpc_id      = var.vpc_id
  tags        = { Name = "${var.name}-api" }
}

resource "aws_vpc_security_group_ingress_rule" "public" {
  #checkov:skip=CKV_AWS_260: port 80 only redirects to 443
  for_each = { "HTTPS" = 443, "HTTP, which is redirected" = 80 }

  security_group_id = aws_security_group.balancer.id
  description       = each.key
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_vpc_security_group_egress_rule" "balancer" {
  security_group_id            = aws_security_group.balancer.id
  description                  = "The tasks"
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
  referenced_security_group_id = aws_security_group.task.id
}

resource "aws_vpc_security_group_ingress_rule" "task" {
  security_group_id            = aws_security_group.task.id
  description                  = "The load balancer"
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
  referenced_security_group_id = aws_security_group.balancer.id
}

resource "aws_vpc_security_group_ingress_rule" "metrics" {
  for_each = toset(var.monitoring_cidrs)

  security_group_id = aws_security_group.task.id
  description       = "Metrics from Prometheus"
  ip_protocol       = "tcp"
  from_port         = local.metrics_port
  to_port           = local.metrics_port
  cidr_ipv4         = each.value
}

resource "aws_vpc_security_group_egress_rule" "database" {
  for_each = toset(var.database.cidrs)

  security_group_id = aws_security_group.task.id
  description       = "PostgreSQL"
  ip_protocol       = "tcp"
  from_port         = var.database.port
  to_port           = var.database.port
  cidr_ipv4         = each.value
}

resource "aws_vpc_security_group_egress_rule" "redis" {
  count = var.redis == null ? 0 : 1

  security_group_id            = aws_security_group.task.id
  description                  = "Redis"
  ip_protocol                  = "tcp"
  from_port                    = var.redis.port
  to_port                      = var.redis.port
  referenced_security_group_id = var.redis.security_group_id
}

# ECS starts a task through the task's own network interface: images, secrets and logs.
module "aws_egress" {
  source = "../aws-egress"

  security_group_id = aws_security_group.task.id
  aws_access        = var.aws_access
}
