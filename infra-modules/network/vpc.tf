data "aws_region" "current" {}

resource "aws_vpc" "this" {
  cidr_block           = var.cidr
  enable_dns_support   = true
  enable_dns_hostnames = true

  tags = { Name = var.name }

  lifecycle {
    precondition {
      condition     = alltrue([for zone in var.zones : startswith(zone, data.aws_region.current.region)])
      error_message = "zones must be in the provider's region, ${data.aws_region.current.region}: ${join(", ", var.zones)} are not all."
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
