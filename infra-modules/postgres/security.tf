# Network rules of the nodes. There is no port 22: the SSM agent connects outbound.

resource "aws_security_group" "node" {
  name        = "${var.name}-postgres"
  description = "Database nodes of ${var.name}"
  vpc_id      = var.vpc_id
  tags        = { Name = "${var.name}-postgres" }
}

locals {
  ports = { postgres = var.postgres_port, agent = var.agent_port }

  # Label of a rule => port and network. Nodes of the other region are named by their network, since a security group
  # of another region cannot be referenced.
  peer_rules = {
    for pair in setproduct(keys(local.ports), var.peer_cidrs) :
    "${pair[0]} ${pair[1]}" => { what = pair[0], port = local.ports[pair[0]], cidr = pair[1] }
  }
  exporter_ports   = merge(var.exporter_ports, var.pooler ? { pooler = var.pooler_exporter_port } : {})
  monitoring_ports = merge({ agent = var.agent_port }, { for name, port in local.exporter_ports : "${name}-exporter" => port })
  monitoring_rules = {
    for pair in setproduct(keys(local.monitoring_ports), var.monitoring_cidrs) :
    "${pair[0]} ${pair[1]}" => { what = pair[0], port = local.monitoring_ports[pair[0]], cidr = pair[1] }
  }
}

resource "aws_vpc_security_group_ingress_rule" "api" {
  for_each = var.api_security_group_ids

  security_group_id            = aws_security_group.node.id
  description                  = "PostgreSQL from ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = var.postgres_port
  to_port                      = var.postgres_port
  referenced_security_group_id = each.value
}

resource "aws_vpc_security_group_ingress_rule" "pooler" {
  for_each = var.pooler ? var.api_security_group_ids : {}

  security_group_id            = aws_security_group.node.id
  description                  = "Pooler from ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = var.pooler_port
  to_port                      = var.pooler_port
  referenced_security_group_id = each.value
}

resource "aws_vpc_security_group_ingress_rule" "pooler_client" {
  for_each = var.pooler_clients

  security_group_id            = aws_security_group.node.id
  description                  = "Pooler from ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = var.pooler_port
  to_port                      = var.pooler_port
  referenced_security_group_id = each.value.security_group_id
  cidr_ipv4                    = each.value.cidr
}

resource "aws_vpc_security_group_ingress_rule" "node" {
  for_each = local.ports

  security_group_id            = aws_security_group.node.id
  description                  = "${each.key} from the nodes of this region"
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
  referenced_security_group_id = aws_security_group.node.id
}

resource "aws_vpc_security_group_ingress_rule" "peer" {
  for_each = local.peer_rules

  security_group_id = aws_security_group.node.id
  description       = "${each.value.what} from the nodes of the other region"
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
  cidr_ipv4         = each.value.cidr
}

resource "aws_vpc_security_group_ingress_rule" "monitoring" {
  for_each = local.monitoring_rules

  security_group_id = aws_security_group.node.id
  description       = "${each.value.what} from Prometheus"
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
  cidr_ipv4         = each.value.cidr
}

resource "aws_vpc_security_group_egress_rule" "node" {
  for_each = local.ports

  security_group_id            = aws_security_group.node.id
  description                  = "${each.key} of the nodes of this region"
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
  referenced_security_group_id = aws_security_group.node.id
}

resource "aws_vpc_security_group_egress_rule" "peer" {
  for_each = local.peer_rules

  security_group_id = aws_security_group.node.id
  description       = "${each.value.what} of the nodes of the other region"
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
  cidr_ipv4         = each.value.cidr
}

module "aws_egress" {
  source = "../aws-egress"

  security_group_id = aws_security_group.node.id
  aws_access        = var.aws_access
}
