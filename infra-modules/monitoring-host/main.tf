# The host of Prometheus and Alertmanager of a region. What it stores can be lost: metrics of some weeks, and silences.

data "aws_region" "this" {}

module "host" {
  source = "../private-host"

  name                 = var.name
  role                 = "monitoring"
  title                = "Prometheus and Alertmanager"
  node                 = "monitoring-${data.aws_region.this.region}" # its name in Ansible's inventory, which has both regions
  vpc_id               = var.vpc_id
  subnet_id            = var.subnet_id
  instance_type        = var.instance_type
  ami_id               = var.ami_id
  root_volume_size_gib = var.volume_size_gib
  kms_key_arn          = var.kms_key_arn
  aws_access           = var.aws_access
  permissions_boundary = var.permissions_boundary
}

locals {
  ports   = merge(var.ports, var.pooler ? { pooler-exporters = var.pooler_exporter_port } : {})
  targets = { for pair in setproduct(keys(local.ports), var.target_cidrs) : "${pair[0]} ${pair[1]}" => { what = pair[0], port = local.ports[pair[0]], cidr = pair[1] } }

  # Ports to which the monitoring host of the other region connects. Alertmanagers neither authenticate nor encrypt their messages,
  # so its address alone is admitted.
  peer_ports = {
    "Alertmanager, TCP" = { protocol = "tcp", port = var.cluster_port }
    "Alertmanager, UDP" = { protocol = "udp", port = var.cluster_port }
    "node exporter"     = { protocol = "tcp", port = var.ports.node-exporters }
  }
  peers = {
    for pair in setproduct(keys(local.peer_ports), var.peer_addresses) :
    "${pair[0]} ${pair[1]}" => merge(local.peer_ports[pair[0]], { what = pair[0], cidr = "${pair[1]}/32" })
  }
}

resource "aws_vpc_security_group_egress_rule" "targets" {
  for_each = local.targets

  security_group_id = module.host.security_group_id
  description       = "Metrics of ${each.value.what}"
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
  cidr_ipv4         = each.value.cidr
}

# The API's load balancer has public addresses, which change. Without endpoints the host reaches AWS by the same rule.
resource "aws_vpc_security_group_egress_rule" "canary" {
  count = var.canary && var.aws_access != null ? 1 : 0

  security_group_id = module.host.security_group_id
  description       = "The API, as its clients reach it"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_vpc_security_group_ingress_rule" "peer" {
  for_each = local.peers

  security_group_id = module.host.security_group_id
  description       = "${each.value.what} from the monitoring host of the other region"
  ip_protocol       = each.value.protocol
  from_port         = each.value.port
  to_port           = each.value.port
  cidr_ipv4         = each.value.cidr
}

# The node exporter is among the targets.
resource "aws_vpc_security_group_egress_rule" "peer" {
  for_each = { for label, peer in local.peers : label => peer if peer.port == var.cluster_port }

  security_group_id = module.host.security_group_id
  description       = "${each.value.what} of the monitoring host of the other region"
  ip_protocol       = each.value.protocol
  from_port         = each.value.port
  to_port           = each.value.port
  cidr_ipv4         = each.value.cidr
}
