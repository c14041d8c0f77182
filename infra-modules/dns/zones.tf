resource "aws_route53_zone" "private" {
  name    = var.private_zone_name
  comment = "${var.name}: the database's names"

  vpc {
    vpc_id     = var.vpc_ids["primary"].id
    vpc_region = var.vpc_ids["primary"].region
  }

  tags = { Name = "${var.name}-private" }

  lifecycle {
    # Other VPCs are associated separately, some of them by another root.
    ignore_changes = [vpc]
  }
}

resource "aws_route53_zone_association" "this" {
  for_each = { for label, vpc in var.vpc_ids : label => vpc if label != "primary" }

  zone_id    = aws_route53_zone.private.zone_id
  vpc_id     = each.value.id
  vpc_region = each.value.region
}

resource "aws_route53_zone" "public" {
  count = var.create_public_zone ? 1 : 0

  #checkov:skip=CKV2_AWS_38:DNSSEC needs the parent zone's DS record, which is not in this account.
  #checkov:skip=CKV2_AWS_39:Logs of public queries contain clients, and nothing about the platform.
  name    = var.public_zone_name
  comment = "${var.name}: the API's names"

  tags = { Name = "${var.name}-public" }
}

data "aws_route53_zone" "public" {
  count = var.create_public_zone ? 0 : 1

  name         = var.public_zone_name
  private_zone = false
}

locals {
  public_zone_id = var.create_public_zone ? aws_route53_zone.public[0].zone_id : data.aws_route53_zone.public[0].zone_id
}
