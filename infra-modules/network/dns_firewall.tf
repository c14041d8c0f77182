# The VPC's resolver answers AWS's names, the VPC's own, and those of `allowed_domains`. A query for any other name carries
# data to that name's server, also from a subnet without a route to the internet.

locals {
  # 10, 172.16 to 172.31, 192.168: the VPC's private range, backwards. The owner of a public address also answers for its
  # name.
  reverse_domain = startswith(var.cidr, "10.") ? "10" : join(".", reverse(slice(split(".", var.cidr), 0, 2)))

  dns_domains = concat(
    [
      "amazonaws.com.", "*.amazonaws.com.", "*.${local.reverse_domain}.in-addr.arpa.",
      data.aws_region.current.region == "us-east-1" ? "*.ec2.internal." : "*.${data.aws_region.current.region}.compute.internal.",
    ],
    flatten([for domain in var.allowed_domains : startswith(domain, "*") ? ["${domain}."] : ["${domain}.", "*.${domain}."]]),
  )
}

resource "aws_route53_resolver_firewall_domain_list" "allowed" {
  name    = "${var.name}-allowed"
  domains = local.dns_domains

  tags = { Name = "${var.name}-allowed" }
}

resource "aws_route53_resolver_firewall_domain_list" "all" {
  name    = "${var.name}-all"
  domains = ["*."]

  tags = { Name = "${var.name}-all" }
}

resource "aws_route53_resolver_firewall_rule_group" "this" {
  name = var.name

  tags = { Name = var.name }
}

resource "aws_route53_resolver_firewall_rule" "allow" {
  name                    = "allowed"
  priority                = 100
  action                  = "ALLOW"
  firewall_rule_group_id  = aws_route53_resolver_firewall_rule_group.this.id
  firewall_domain_list_id = aws_route53_resolver_firewall_domain_list.allowed.id
  # An allowed name may be an alias of any other, such as a load balancer's.
  firewall_domain_redirection_action = "TRUST_REDIRECTION_DOMAIN"
}

# The answer is that the name does not exist, so that a client tries the next of its search domains.
resource "aws_route53_resolver_firewall_rule" "block" {
  name                    = "all-others"
  priority                = 200
  action                  = "BLOCK"
  block_response          = "NXDOMAIN"
  firewall_rule_group_id  = aws_route53_resolver_firewall_rule_group.this.id
  firewall_domain_list_id = aws_route53_resolver_firewall_domain_list.all.id
}

resource "aws_route53_resolver_firewall_rule_group_association" "this" {
  name                   = var.name
  vpc_id                 = aws_vpc.this.id
  firewall_rule_group_id = aws_route53_resolver_firewall_rule_group.this.id
  # AWS reserves 100 and below.
  priority = 101

  tags = { Name = var.name }

  # Between an empty group and the first rule for all names, the allowed ones are refused by none.
  depends_on = [aws_route53_resolver_firewall_rule.allow, aws_route53_resolver_firewall_rule.block]
}

# A renewal of the lease resolves S3's name: where the firewall fails, the resolver answers rather than stopping a healthy
# primary.
resource "aws_route53_resolver_firewall_config" "this" {
  resource_id        = aws_vpc.this.id
  firewall_fail_open = "ENABLED"
}
