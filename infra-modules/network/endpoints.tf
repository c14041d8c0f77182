locals {
  # Session Manager, secrets, images, logs, and stopping an instance (`promote --stop-instance`).
  services            = toset(keys(local.endpoint_statements))
  endpoint_zones      = slice(var.zones, 0, { none = 0, one = 1, two = 2, per-zone = 3 }[var.endpoints])
  endpoint_subnet_ids = [for zone in local.endpoint_zones : aws_subnet.private[zone].id]
}

resource "aws_security_group" "endpoints" {
  name        = "${var.name}-endpoints"
  description = "Interface endpoints: HTTPS from hosts and tasks"
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${var.name}-endpoints" }
}

# The load balancer's subnets call no service.
resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  for_each = { for tier in ["private", "data"] : tier => cidrsubnet(var.cidr, 2, local.tiers[tier] / 4) }

  security_group_id = aws_security_group.endpoints.id
  description       = "HTTPS from the ${each.key} subnets"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443

  tags = { Name = "${var.name}-endpoints-${each.key}" }
}

resource "aws_vpc_endpoint" "interface" {
  for_each = toset([for service in local.services : service if length(local.endpoint_zones) > 0])

  vpc_id              = aws_vpc.this.id
  vpc_endpoint_type   = "Interface"
  service_name        = "com.amazonaws.${data.aws_region.current.region}.${each.key}"
  private_dns_enabled = true
  subnet_ids          = local.endpoint_subnet_ids
  security_group_ids  = [aws_security_group.endpoints.id]
  policy              = jsonencode({ Version = "2012-10-17", Statement = local.endpoint_statements[each.key] })

  tags = { Name = "${var.name}-${each.key}" }
}

resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  vpc_endpoint_type = "Gateway"
  service_name      = "com.amazonaws.${data.aws_region.current.region}.s3"
  route_table_ids   = concat([aws_route_table.data.id], [for table in merge(aws_route_table.private, aws_route_table.data_nat) : table.id])
  policy            = jsonencode({ Version = "2012-10-17", Statement = [local.own_buckets, local.published] })

  tags = { Name = "${var.name}-s3" }
}

# The gateway endpoint serves only buckets of its own region. The lease and the other region's backups are elsewhere.
resource "aws_vpc_endpoint" "remote" {
  for_each = { for label, service in var.remote_services : label => service if length(local.endpoint_zones) > 0 }

  vpc_id              = aws_vpc.this.id
  vpc_endpoint_type   = "Interface"
  service_name        = each.value.service_name
  service_region      = each.value.region
  private_dns_enabled = true
  subnet_ids          = local.endpoint_subnet_ids
  security_group_ids  = [aws_security_group.endpoints.id]

  # Route 53's endpoint supports no policy: callers are limited by their roles alone.
  policy = endswith(each.value.service_name, ".s3") ? jsonencode({ Version = "2012-10-17", Statement = [local.own_buckets] }) : null

  # Only S3 needs this option, so that its name resolves to the endpoint in the VPC as well.
  dynamic "dns_options" {
    for_each = endswith(each.value.service_name, ".s3") ? [true] : []

    content {
      private_dns_only_for_inbound_resolver_endpoint = false
    }
  }

  tags = { Name = "${var.name}-${each.key}" }

  lifecycle {
    precondition {
      condition     = each.value.region != data.aws_region.current.region
      error_message = "remote_services[\"${each.key}\"] is of this region, ${data.aws_region.current.region}, which has its own endpoints: remove it, or name the other region."
    }
  }
}
