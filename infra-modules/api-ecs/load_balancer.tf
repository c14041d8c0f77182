resource "aws_lb" "this" {
  #checkov:skip=CKV2_AWS_76: the rules of the firewall are in `rule_json`, which checkov does not read
  name                       = "${var.name}-api"
  load_balancer_type         = "application"
  internal                   = false
  subnets                    = var.public_subnet_ids
  security_groups            = [aws_security_group.balancer.id]
  drop_invalid_header_fields = true
  enable_deletion_protection = var.deletion_protection
  # Above REQUEST_TIMEOUT, so that the API reports the cause of a timeout.
  idle_timeout = 60

  dynamic "access_logs" {
    for_each = var.access_logs_bucket == null ? [] : [var.access_logs_bucket]
    content {
      enabled = true
      bucket  = access_logs.value
      prefix  = "${var.name}-api"
    }
  }
}

resource "aws_lb_target_group" "this" {
  #checkov:skip=CKV_AWS_378: TLS ends at the load balancer, and only it reaches a task, within the VPC
  for_each = toset(local.is_blue_green ? ["blue", "green"] : ["blue"])

  name        = "${var.name}-${each.key}"
  vpc_id      = var.vpc_id
  target_type = "ip"
  protocol    = "HTTP"
  port        = local.port
  # A deregistering target has as long for its last responses as the task has for its shutdown.
  deregistration_delay = var.drain.delay + var.drain.timeout

  # ECS replaces targets that fail this check. A failover of the database is over long before the fifth check, and
  # replaces no task.
  health_check {
    path                = var.health_check_path
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 5
  }
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.this.arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = var.tls_policy
  certificate_arn   = var.certificate_arn

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this["blue"].arn
  }

  lifecycle {
    precondition {
      condition     = startswith(var.certificate_arn, "arn:aws:acm:${local.region}:")
      error_message = "`certificate_arn` is ${var.certificate_arn}, and the load balancer is in ${local.region}: name a certificate of this region."
    }
  }
}

# Also for images that serve the metrics on the API's port. Before the rule of blue/green deployments, which forwards
# everything.
resource "aws_lb_listener_rule" "metrics" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 1

  condition {
    path_pattern {
      values = ["/metrics", "/metrics/*"]
    }
  }

  action {
    type = "fixed-response"
    fixed_response {
      content_type = "text/plain"
      message_body = "Not Found"
      status_code  = "404"
    }
  }
}

resource "aws_lb_listener" "http" {
  load_balancer_arn = aws_lb.this.arn
  port              = 80
  protocol          = "HTTP"

  default_action {
    type = "redirect"
    redirect {
      protocol    = "HTTPS"
      port        = "443"
      status_code = "HTTP_301"
    }
  }
}

# ECS shifts traffic here in a blue/green deployment, and owns the weights after the first one.
resource "aws_lb_listener_rule" "blue_green" {
  count = local.is_blue_green ? 1 : 0

  listener_arn = aws_lb_listener.https.arn
  priority     = 100

  condition {
    path_pattern {
      values = ["/*"]
    }
  }

  action {
    type = "forward"
    forward {
      target_group {
        arn    = aws_lb_target_group.this["blue"].arn
        weight = 100
      }
      target_group {
        arn    = aws_lb_target_group.this["green"].arn
        weight = 0
      }
    }
  }

  lifecycle {
    ignore_changes = [action]
  }
}
