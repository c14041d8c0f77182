locals {
  # Sixteen equal blocks, four per tier: three are used, and the fourth is reserved for another zone.
  tiers = { public = 0, private = 4, data = 8 }
  cidrs = {
    for tier, first in local.tiers : tier => {
      for i, zone in var.zones : zone => cidrsubnet(var.cidr, 4, first + i)
    }
  }
}

# The load balancer and the NAT gateways have their own public addresses; nothing else gets one.
resource "aws_subnet" "public" {
  for_each = local.cidrs.public

  vpc_id                  = aws_vpc.this.id
  availability_zone       = each.key
  cidr_block              = each.value
  map_public_ip_on_launch = false

  # The AWS Load Balancer Controller of the EKS variant finds its subnets by the second tag.
  tags = {
    Name                     = "${var.name}-public-${each.key}"
    "kubernetes.io/role/elb" = "1"
  }
}

resource "aws_subnet" "private" {
  for_each = local.cidrs.private

  vpc_id                  = aws_vpc.this.id
  availability_zone       = each.key
  cidr_block              = each.value
  map_public_ip_on_launch = false

  tags = {
    Name                              = "${var.name}-private-${each.key}"
    "kubernetes.io/role/internal-elb" = "1"
  }
}

resource "aws_subnet" "data" {
  for_each = local.cidrs.data

  vpc_id                  = aws_vpc.this.id
  availability_zone       = each.key
  cidr_block              = each.value
  map_public_ip_on_launch = false

  tags = { Name = "${var.name}-data-${each.key}" }
}
