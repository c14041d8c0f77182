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
  targets = { for pair in setproduct(keys(var.ports), var.target_cidrs) : "${pair[0]} ${pair[1]}" => { what = pair[0], port = var.ports[pair[0]], cidr = pair[1] } }
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
