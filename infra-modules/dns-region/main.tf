resource "aws_route53_zone_association" "this" {
  count = var.private_zone == null ? 0 : 1

  zone_id    = var.private_zone.id
  vpc_id     = var.private_zone.vpc_id
  vpc_region = var.private_zone.region
}

# Route 53's checkers are on the internet, and cannot reach a database node. They check the API, which is ready
# only with a writable database.
resource "aws_route53_health_check" "this" {
  count = var.api == null ? 0 : 1

  type              = "HTTPS"
  fqdn              = var.api.dns_name
  port              = 443
  enable_sni        = true
  resource_path     = var.health_check.path
  request_interval  = var.health_check.interval_seconds
  failure_threshold = var.health_check.failure_threshold

  tags = { Name = "${var.name}-api-${lower(var.role)}" }
}

resource "aws_route53_record" "this" {
  #checkov:skip=CKV2_AWS_23:The alias target is a load balancer of another module.
  count = var.api == null ? 0 : 1

  zone_id         = var.public_zone_id
  name            = var.record_name
  type            = "A"
  set_identifier  = lower(var.role)
  health_check_id = aws_route53_health_check.this[0].id

  failover_routing_policy {
    type = var.role
  }

  alias {
    name                   = var.api.dns_name
    zone_id                = var.api.zone_id
    evaluate_target_health = true
  }
}

resource "aws_route53_record" "region" {
  #checkov:skip=CKV2_AWS_23:As above.
  count = var.api == null || var.regional_name == null ? 0 : 1

  zone_id = var.public_zone_id
  name    = var.regional_name
  type    = "A"

  alias {
    name                   = var.api.dns_name
    zone_id                = var.api.zone_id
    evaluate_target_health = false
  }
}
