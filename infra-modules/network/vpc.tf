data "aws_region" "current" {}

data "aws_availability_zones" "current" {
  #checkov:skip=CKV_AWS_394:It places nothing, and only says which of the given zones exist.
  state = "available"

  # Zones of the region proper; not Local Zones.
  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

# 172.17.0.0/16 is the network of Docker's default bridge.
check "docker" {
  assert {
    condition     = try(cidrhost("${split("/", var.cidr)[0]}/16", 0) != "172.17.0.0", true)
    error_message = "cidr ${var.cidr} is the network of Docker's default bridge: a host with Docker, such as a CI runner behind a VPN, does not reach it. Choose another unless there is none."
  }
}

resource "aws_vpc" "this" {
  cidr_block           = var.cidr
  enable_dns_support   = true
  enable_dns_hostnames = true

  tags = { Name = var.name }

  lifecycle {
    precondition {
      condition     = alltrue([for zone in var.zones : contains(data.aws_availability_zones.current.names, zone)])
      error_message = "zones must be of the provider's region, ${data.aws_region.current.region}, where this account has ${join(", ", data.aws_availability_zones.current.names)}: ${join(", ", var.zones)} are not all among them."
    }
  }
}

# Empties the VPC's default security group and route table, so that forgotten resources are unreachable.

resource "aws_default_security_group" "this" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-unused" }
}

resource "aws_default_route_table" "this" {
  default_route_table_id = aws_vpc.this.default_route_table_id
  route                  = []

  tags = { Name = "${var.name}-unused" }
}
