mock_provider "aws" {
  override_during = plan
}

variables {
  security_group_id = "sg-0a"
  aws_access        = { endpoint_security_group_id = "sg-0e", s3_prefix_list_id = "pl-0a" }
}

run "endpoints_then_no_address_is_open" {
  command = plan

  assert {
    condition = toset([
      for rule in aws_vpc_security_group_egress_rule.this :
      "${rule.security_group_id} ${rule.ip_protocol} ${rule.from_port}-${rule.to_port} ${coalesce(rule.referenced_security_group_id, rule.prefix_list_id, rule.cidr_ipv4)}"
    ]) == toset(["sg-0a tcp 443-443 sg-0e", "sg-0a tcp 443-443 pl-0a"])
    error_message = "with endpoints a member must reach them and S3 by HTTPS, and no other address"
  }
}

run "no_endpoints_then_https_to_every_address" {
  command = plan
  variables {
    aws_access = null
  }

  assert {
    condition = toset([
      for rule in aws_vpc_security_group_egress_rule.this :
      "${rule.security_group_id} ${rule.ip_protocol} ${rule.from_port}-${rule.to_port} ${coalesce(rule.cidr_ipv4, rule.referenced_security_group_id, rule.prefix_list_id)}"
    ]) == toset(["sg-0a tcp 443-443 0.0.0.0/0"])
    error_message = "without endpoints a member must reach every address by HTTPS, and at no other port"
  }
}
