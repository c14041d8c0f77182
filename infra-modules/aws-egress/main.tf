# Rules by which a security group lets its members call AWS: to the endpoints and S3 of this region or, in a network without
# endpoints, to every address at port 443.

locals {
  # The gateway endpoint of S3 has public addresses. The SSM agent of a host and the layers of a task's image are in S3.
  destinations = {
    endpoints = { of_endpoints = true, description = "AWS APIs, through endpoints", security_group_id = try(var.aws_access.endpoint_security_group_id, null) }
    s3        = { of_endpoints = true, description = "S3 of this region", prefix_list_id = try(var.aws_access.s3_prefix_list_id, null) }
    internet  = { of_endpoints = false, description = "AWS APIs, without endpoints", cidr = "0.0.0.0/0" }
  }
}

resource "aws_vpc_security_group_egress_rule" "this" {
  for_each = { for label, destination in local.destinations : label => destination if destination.of_endpoints == (var.aws_access != null) }

  security_group_id            = var.security_group_id
  description                  = each.value.description
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  referenced_security_group_id = try(each.value.security_group_id, null)
  prefix_list_id               = try(each.value.prefix_list_id, null)
  cidr_ipv4                    = try(each.value.cidr, null)
}
