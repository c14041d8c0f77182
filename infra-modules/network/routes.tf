locals {
  nat_zones = slice(var.zones, 0, { none = 0, one = 1, two = 2, per-zone = 3 }[var.nat])
}

# public: inbound and outbound

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id

  tags = { Name = var.name }
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-public" }
}

resource "aws_route" "public" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

resource "aws_route_table_association" "public" {
  for_each = aws_subnet.public

  subnet_id      = each.value.id
  route_table_id = aws_route_table.public.id
}

# private: outbound through NAT, if any. One table per zone, so that `nat` can be changed without moving a subnet.

resource "aws_eip" "nat" {
  for_each = toset(local.nat_zones)

  domain = "vpc"

  tags = { Name = "${var.name}-nat-${each.key}" }

  depends_on = [aws_internet_gateway.this]
}

resource "aws_nat_gateway" "this" {
  for_each = toset(local.nat_zones)

  allocation_id = aws_eip.nat[each.key].id
  subnet_id     = aws_subnet.public[each.key].id

  tags = { Name = "${var.name}-${each.key}" }
}

resource "aws_route_table" "private" {
  for_each = toset(var.zones)

  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-private-${each.key}" }
}

resource "aws_route" "private" {
  for_each = toset(length(local.nat_zones) == 0 ? [] : var.zones)

  route_table_id         = aws_route_table.private[each.key].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id = aws_nat_gateway.this[
    contains(local.nat_zones, each.key) ? each.key : local.nat_zones[0]
  ].id
}

resource "aws_route_table_association" "private" {
  for_each = aws_subnet.private

  subnet_id      = each.value.id
  route_table_id = aws_route_table.private[each.key].id
}

# data: routes only to S3 and to the peer. Without endpoints, outbound through NAT, with a table per zone.

resource "aws_route_table" "data" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-data" }
}

resource "aws_route_table_association" "data" {
  for_each = aws_subnet.data

  subnet_id      = each.value.id
  route_table_id = var.endpoints == "none" ? aws_route_table.data_nat[each.key].id : aws_route_table.data.id
}

resource "aws_route_table" "data_nat" {
  for_each = toset(var.endpoints == "none" ? var.zones : [])

  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-data-${each.key}" }
}

resource "aws_route" "data_nat" {
  for_each = toset(var.endpoints == "none" && length(local.nat_zones) > 0 ? var.zones : [])

  route_table_id         = aws_route_table.data_nat[each.key].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id = aws_nat_gateway.this[
    contains(local.nat_zones, each.key) ? each.key : local.nat_zones[0]
  ].id
}
