# Rules by which a security group lets its members call AWS: to the endpoints and S3 of this region or, in a network without
# endpoints, to every address at port 443.

resource "aws_vpc_security_group_egress_rule" "endpoints" {
  count = var.aws_access == null ? 0 : 1

  security_group_id            = var.security_group_id
  description                  = "AWS APIs, through endpoints"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  referenced_security_group_id = var.aws_access.endpoint_security_group_id
}

# The gateway endpoint has public addresses. The SSM agent of a host and the layers of a task's image are in S3.
resource "aws_vpc_security_group_egress_rule" "s3" {
  count = var.aws_access == null ? 0 : 1

  security_group_id = var.security_group_id
  description       = "S3 of this region"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  prefix_list_id    = var.aws_access.s3_prefix_list_id
}

resource "aws_vpc_security_group_egress_rule" "internet" {
  count = var.aws_access == null ? 1 : 0

  security_group_id = var.security_group_id
  description       = "AWS APIs, without endpoints"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}
