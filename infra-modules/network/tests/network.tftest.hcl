mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { region = "eu-west-1" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-west-1a", "eu-west-1b", "eu-west-1c"] }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/flow-log" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-west-1:123456789012:log-group:flow-log" }
  }
}

variables {
  permissions_boundary = "arn:aws:iam::123456789012:policy/workloads"
  name                 = "causeway-test"
  cidr                 = "10.1.0.0/16"
  zones                = ["eu-west-1a", "eu-west-1b", "eu-west-1c"]
  kms_key_arn          = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  bucket_names         = ["causeway-test-backup-eu-west-1-123456789012", "causeway-test-lease-123456789012"]
  remote_services = {
    lease = { service_name = "com.amazonaws.eu-north-1.s3", region = "eu-north-1" }
    dns   = { service_name = "com.amazonaws.route53", region = "us-east-1" }
  }
}

run "tiers_are_apart" {
  command = plan

  assert {
    condition     = length(aws_subnet.public) == 3 && length(aws_subnet.private) == 3 && length(aws_subnet.data) == 3
    error_message = "Each tier must have a subnet in each of three zones."
  }
  assert {
    condition     = length(distinct(concat(output.public_cidrs, output.private_cidrs, output.data_cidrs))) == 9
    error_message = "No two subnets may have the same addresses."
  }
  assert {
    condition     = output.data_cidrs == ["10.1.128.0/20", "10.1.144.0/20", "10.1.160.0/20"]
    error_message = "The data subnets must keep their addresses: nodes have them in their configuration."
  }
  assert {
    condition     = keys(output.subnet_ids) == ["data", "private", "public"] && keys(output.subnet_ids.data) == ["eu-west-1a", "eu-west-1b", "eu-west-1c"]
    error_message = "subnet_ids must be given by tier and zone."
  }
}

run "nothing_gets_a_public_address_by_being_started" {
  command = apply

  variables {
    nat = "per-zone"
  }

  assert {
    condition = alltrue([
      for subnet in concat(values(aws_subnet.public), values(aws_subnet.private), values(aws_subnet.data)) : !subnet.map_public_ip_on_launch
    ])
    error_message = "No subnet may give out public addresses."
  }
  assert {
    condition     = toset(keys(aws_eip.nat)) == toset(var.zones) && alltrue([for zone, gateway in aws_nat_gateway.this : gateway.subnet_id == aws_subnet.public[zone].id])
    error_message = "Public addresses belong to NAT gateways in public subnets, and to nothing else."
  }
}

run "data_subnets_have_no_way_out" {
  command = apply

  variables {
    nat = "per-zone"
  }

  assert {
    condition     = alltrue([for association in aws_route_table_association.data : association.route_table_id == aws_route_table.data.id])
    error_message = "Every data subnet must use the data route table."
  }
  assert {
    condition = alltrue([
      for route in concat([aws_route.public], values(aws_route.private)) : route.route_table_id != aws_route_table.data.id
    ])
    error_message = "The data route table may have no default route."
  }
  assert {
    condition     = alltrue([for zone, route in aws_route.private : route.nat_gateway_id == aws_nat_gateway.this[zone].id && route.gateway_id == null])
    error_message = "A private subnet must leave by NAT, and by its own zone's."
  }
  assert {
    condition     = toset([for route in aws_route_table.data.route : route.cidr_block]) == toset([]) && aws_route.public.route_table_id == aws_route_table.public.id
    error_message = "The data route table may have no route of its own either."
  }
  assert {
    condition     = length(aws_default_route_table.this.route) == 0 && length(coalesce(aws_default_security_group.this.ingress, [])) == 0
    error_message = "What the VPC is born with must be empty."
  }
}

run "endpoints_serve_this_vpc_only" {
  command = apply

  assert {
    condition     = aws_vpc.this.enable_dns_support && aws_vpc.this.enable_dns_hostnames
    error_message = "Without the VPC's names no endpoint is found."
  }

  assert {
    condition = (
      { for tier, rule in aws_vpc_security_group_ingress_rule.endpoints : tier => rule.cidr_ipv4 } == { private = "10.1.64.0/18", data = "10.1.128.0/18" } &&
      alltrue([for rule in aws_vpc_security_group_ingress_rule.endpoints : rule.from_port == 443 && rule.to_port == 443])
    )
    error_message = "Endpoints must take HTTPS from the private and the data subnets only."
  }
  assert {
    condition = alltrue([
      for endpoint in concat(values(aws_vpc_endpoint.interface), values(aws_vpc_endpoint.remote)) :
      endpoint.vpc_endpoint_type == "Interface" && endpoint.private_dns_enabled && endpoint.security_group_ids == toset([aws_security_group.endpoints.id])
    ])
    error_message = "Every interface endpoint must be reached by its service's name, through the one security group."
  }
  assert {
    condition     = toset(keys(aws_vpc_endpoint.interface)) == toset(["ec2", "ecr.api", "ecr.dkr", "logs", "secretsmanager", "ssm", "ssmmessages"])
    error_message = "Every service that nodes and tasks call must have an endpoint, and no other service."
  }
  assert {
    condition     = aws_vpc_endpoint.s3.vpc_endpoint_type == "Gateway" && aws_vpc_endpoint.s3.service_name == "com.amazonaws.eu-west-1.s3" && contains(aws_vpc_endpoint.s3.route_table_ids, aws_route_table.data.id)
    error_message = "The data subnets must reach this region's S3 by the gateway endpoint."
  }
}

run "data_subnets_reach_the_lease_and_route_53" {
  command = plan

  assert {
    condition     = aws_vpc_endpoint.remote["lease"].service_region == "eu-north-1" && !aws_vpc_endpoint.remote["lease"].dns_options[0].private_dns_only_for_inbound_resolver_endpoint
    error_message = "The lease's S3 must be reached by its name in the other region."
  }
  assert {
    condition     = aws_vpc_endpoint.remote["dns"].service_region == "us-east-1" && length(aws_vpc_endpoint.remote["dns"].dns_options) == 0
    error_message = "Route 53 must be reached in us-east-1."
  }
}

run "nothing_is_carried_away_to_a_bucket_of_others" {
  command = plan

  assert {
    condition = alltrue([
      for endpoint in [aws_vpc_endpoint.s3, aws_vpc_endpoint.remote["lease"]] : alltrue([
        for statement in jsondecode(endpoint.policy).Statement :
        statement.Effect == "Allow" && (
          statement.Action == "s3:GetObject" ||
          try(statement.Condition.StringEquals, {}) == { "aws:PrincipalAccount" = "123456789012", "aws:ResourceAccount" = "123456789012" }
        )
      ])
    ])
    error_message = "An endpoint of S3 may take writes only by this account, and only to its buckets."
  }
  assert {
    condition = alltrue([
      for endpoint in [aws_vpc_endpoint.s3, aws_vpc_endpoint.remote["lease"]] :
      length(setsubtract(["s3:AbortMultipartUpload", "s3:GetObject", "s3:ListBucket", "s3:PutObject"], jsondecode(endpoint.policy).Statement[0].Action)) == 0
    ])
    error_message = "Nodes must be able to do in the account's buckets what their role may."
  }
  assert {
    condition = alltrue([
      for endpoint in [aws_vpc_endpoint.s3, aws_vpc_endpoint.remote["lease"]] :
      jsondecode(endpoint.policy).Statement[0].Resource == flatten([for bucket in var.bucket_names : ["arn:aws:s3:::${bucket}", "arn:aws:s3:::${bucket}/*"]])
    ])
    error_message = "Of the account's buckets only the cluster's may be used: another, such as a website's, would carry rows away."
  }
  assert {
    condition = jsondecode(aws_vpc_endpoint.s3.policy).Statement[1].Resource == [
      "arn:aws:s3:::amazon-ssm-eu-west-1/*", "arn:aws:s3:::prod-eu-west-1-starport-layer-bucket/*",
    ]
    error_message = "Of others' buckets only Systems Manager's and ECR's of this region may be read."
  }
  assert {
    condition     = length(jsondecode(aws_vpc_endpoint.remote["lease"].policy).Statement) == 1 && !can(jsondecode(aws_vpc_endpoint.remote["dns"].policy))
    error_message = "In other regions there are only the account's buckets to reach, and a policy of S3 is not one of Route 53."
  }
}

run "nothing_is_carried_away_to_an_account_of_others" {
  command = plan

  variables {
    further_endpoints = ["ec2messages", "kms", "monitoring", "sts"]
  }

  assert {
    condition = alltrue(flatten([
      for service, endpoint in aws_vpc_endpoint.interface : [
        for statement in jsondecode(endpoint.policy).Statement :
        statement.Effect == "Allow" && (
          statement.Sid == "RolesByTokens" || try(statement.Condition.StringEquals["aws:PrincipalAccount"], "") == "123456789012"
        )
      ]
    ]))
    error_message = "Credentials of another account must be worth nothing at any endpoint."
  }
  assert {
    condition = toset([
      for service, endpoint in aws_vpc_endpoint.interface : service
      if try(jsondecode(endpoint.policy).Statement[0].Condition.StringEquals["aws:ResourceAccount"], "") == "123456789012"
    ]) == toset(["kms", "logs", "secretsmanager", "ssm", "sts"])
    error_message = "Where all that is called for is the account's own, nothing else may be reached."
  }
  assert {
    condition = { for service, endpoint in aws_vpc_endpoint.interface : service => [
      for statement in slice(jsondecode(endpoint.policy).Statement, 1, length(jsondecode(endpoint.policy).Statement)) :
      "${join(" ", flatten([statement.Action]))}: ${join(" ", flatten([statement.Resource]))}"
      ] if length(jsondecode(endpoint.policy).Statement) > 1 } == {
      ssm = ["ssm:DescribeDocument ssm:GetDocument: arn:aws:ssm:eu-west-1::document/*", "ssm:GetParameter ssm:GetParameters: arn:aws:ssm:eu-west-1::parameter/aws/*"]
      sts = ["sts:AssumeRoleWithWebIdentity: arn:aws:iam::123456789012:role/*"]
    }
    error_message = "Besides, only what AWS publishes for Systems Manager may be read, and a role of this account be taken by a token."
  }
}

run "traffic_is_logged" {
  command = apply

  assert {
    condition     = aws_flow_log.this.traffic_type == "ALL" && aws_flow_log.this.vpc_id == aws_vpc.this.id
    error_message = "All traffic of the VPC must be logged."
  }
  assert {
    condition     = aws_cloudwatch_log_group.flow_log.retention_in_days == 30 && aws_cloudwatch_log_group.flow_log.kms_key_id == var.kms_key_arn
    error_message = "The flow log must be encrypted and have an end."
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.flow_log.policy).Statement :
      alltrue([for action in flatten([statement.Action]) : !strcontains(action, "*")]) && (statement.Resource != "*" || statement.Action == "logs:DescribeLogGroups")
    ])
    error_message = "The role of the flow log may hold no wildcard, but to list the log groups."
  }
  assert {
    condition     = endswith(aws_iam_role.flow_log.name, "-eu-west-1") && aws_iam_role.flow_log.permissions_boundary == var.permissions_boundary
    error_message = "The role's name must have the region in it, as the other region makes one as well, and the role its boundary."
  }
}

run "one_nat_gateway_serves_all_zones" {
  command = plan

  variables {
    nat = "one"
  }

  assert {
    condition     = keys(aws_nat_gateway.this) == ["eu-west-1a"] && length(aws_route.private) == 3
    error_message = "With nat = \"one\", every private table must lead to the first zone's gateway."
  }
}

run "without_nat_nothing_leaves" {
  command = plan

  assert {
    condition     = length(aws_nat_gateway.this) == 0 && length(aws_eip.nat) == 0 && length(aws_route.private) == 0
    error_message = "With nat = \"none\", the default, there may be no default route but the public one."
  }
}

run "endpoints_in_one_zone" {
  command = plan

  variables {
    endpoints = "one"
  }

  assert {
    condition     = alltrue([for endpoint in aws_vpc_endpoint.interface : length(endpoint.subnet_ids) == 1])
    error_message = "With endpoints = \"one\" each endpoint must be in one subnet."
  }
}

run "smallest_network" {
  command = plan

  variables {
    cidr = "192.168.16.0/20"
  }

  assert {
    condition     = output.public_cidrs[0] == "192.168.16.0/24"
    error_message = "A /20 must give subnets of /24."
  }
  assert {
    condition     = contains(aws_route53_resolver_firewall_domain_list.allowed.domains, "*.168.192.in-addr.arpa.")
    error_message = "Of reverse names the resolver must answer the private range's only."
  }
}

# What a node or a task of a zone needs is in that zone.
run "without_endpoints_each_zone_has_its_nat" {
  command = apply

  variables {
    nat       = "two"
    endpoints = "none"
  }

  assert {
    condition     = length(aws_vpc_endpoint.interface) == 0 && length(aws_vpc_endpoint.remote) == 0 && length(aws_nat_gateway.this) == 2
    error_message = "The network must have two NAT gateways, and no interface endpoint."
  }
  assert {
    condition = alltrue([
      for zone in ["eu-west-1a", "eu-west-1b"] :
      aws_route.data_nat[zone].nat_gateway_id == aws_nat_gateway.this[zone].id && aws_route_table_association.data[zone].route_table_id == aws_route_table.data_nat[zone].id
    ])
    error_message = "The data subnet of a zone must leave through that zone's NAT gateway."
  }
  assert {
    condition     = length(setsubtract([for table in aws_route_table.data_nat : table.id], aws_vpc_endpoint.s3.route_table_ids)) == 0 && length(setsubtract([for table in aws_route_table.data_nat : table.id], values(output.route_table_ids))) == 0
    error_message = "S3 of this region and the other region's network must be reached without NAT."
  }
}

run "endpoints_in_two_zones" {
  command = apply

  variables {
    endpoints = "two"
  }

  assert {
    condition     = aws_vpc_endpoint.interface["ssm"].subnet_ids == toset([aws_subnet.private["eu-west-1a"].id, aws_subnet.private["eu-west-1b"].id]) && length(aws_route.data_nat) == 0
    error_message = "The endpoints must be in the first two zones, and the data subnets without a route to the internet."
  }
}

run "refuses_a_network_without_a_way_to_aws" {
  command         = plan
  expect_failures = [var.endpoints]

  variables {
    nat       = "none"
    endpoints = "none"
  }
}

run "refuses_a_wrong_name" {
  command         = plan
  expect_failures = [var.name]

  variables {
    name = "Causeway_Production"
  }
}

run "refuses_a_name_that_is_too_long" {
  command         = plan
  expect_failures = [var.name]

  variables {
    name = "causeway-production-europe"
  }
}

run "refuses_a_cidr_that_is_none" {
  command         = plan
  expect_failures = [var.cidr]

  variables {
    cidr = "10.1.0.0"
  }
}

run "refuses_a_cidr_with_host_bits" {
  command         = plan
  expect_failures = [var.cidr]

  variables {
    cidr = "10.1.0.1/16"
  }
}

run "refuses_a_cidr_that_is_too_small" {
  command         = plan
  expect_failures = [var.cidr]

  variables {
    cidr = "10.1.0.0/21"
  }
}

run "refuses_a_cidr_that_is_too_large" {
  command         = plan
  expect_failures = [var.cidr]

  variables {
    cidr = "10.0.0.0/15"
  }
}

run "refuses_a_public_cidr" {
  command         = plan
  expect_failures = [var.cidr]

  variables {
    cidr = "172.32.0.0/16"
  }
}

run "refuses_one_zone" {
  command         = plan
  expect_failures = [var.zones]

  variables {
    zones = ["eu-west-1a"]
  }
}

run "refuses_a_zone_named_twice" {
  command         = plan
  expect_failures = [var.zones]

  variables {
    zones = ["eu-west-1a", "eu-west-1a", "eu-west-1b"]
  }
}

run "refuses_a_zone_of_another_region" {
  command         = plan
  expect_failures = [aws_vpc.this]

  variables {
    zones = ["eu-west-1a", "eu-west-1b", "eu-central-1a"]
  }
}

run "refuses_an_unknown_nat" {
  command         = plan
  expect_failures = [var.nat]

  variables {
    nat = "four"
  }
}

run "refuses_unknown_endpoints" {
  command         = plan
  expect_failures = [var.endpoints]

  variables {
    endpoints = "four"
  }
}

run "refuses_a_remote_service_of_this_region" {
  command         = plan
  expect_failures = [aws_vpc_endpoint.remote["near"]]

  variables {
    remote_services = { near = { service_name = "com.amazonaws.eu-west-1.s3", region = "eu-west-1" } }
  }
}

run "refuses_a_remote_service_that_is_not_of_aws" {
  command         = plan
  expect_failures = [var.remote_services]

  variables {
    remote_services = { lease = { service_name = "s3", region = "eu-north-1" } }
  }
}

run "refuses_a_retention_that_cloudwatch_does_not_have" {
  command         = plan
  expect_failures = [var.flow_log_retention_days]

  variables {
    flow_log_retention_days = 31
  }
}

run "refuses_a_key_that_is_none" {
  command         = plan
  expect_failures = [var.kms_key_arn]

  variables {
    kms_key_arn = "alias/causeway"
  }
}

run "refuses_a_boundary_that_is_not_a_policy" {
  command         = plan
  expect_failures = [var.permissions_boundary]

  variables {
    permissions_boundary = "arn:aws:iam::123456789012:role/workloads"
  }
}

run "names_are_answered_by_a_list" {
  command = plan

  variables {
    allowed_domains = ["causeway.internal", "*.example.com"]
  }

  assert {
    condition = aws_route53_resolver_firewall_domain_list.allowed.domains == toset([
      "amazonaws.com.", "*.amazonaws.com.", "*.eu-west-1.compute.internal.", "*.10.in-addr.arpa.", "causeway.internal.", "*.causeway.internal.", "*.example.com.",
    ])
    error_message = "The resolver must answer AWS's names, the VPC's own, and those that are allowed."
  }
  assert {
    condition = (
      aws_route53_resolver_firewall_domain_list.all.domains == toset(["*."]) && aws_route53_resolver_firewall_rule.block.action == "BLOCK" &&
      aws_route53_resolver_firewall_rule.allow.action == "ALLOW" && aws_route53_resolver_firewall_rule.allow.priority < aws_route53_resolver_firewall_rule.block.priority
    )
    error_message = "Every other name must be refused, or a query carries data out of a subnet without a route."
  }
  assert {
    condition     = aws_route53_resolver_firewall_config.this.firewall_fail_open == "ENABLED"
    error_message = "A failure of the firewall must not cut the nodes off from the lease."
  }
}

run "domain_list_applies_to_the_vpc" {
  command = apply

  assert {
    condition = (
      aws_route53_resolver_firewall_rule_group_association.this.vpc_id == aws_vpc.this.id && aws_route53_resolver_firewall_config.this.resource_id == aws_vpc.this.id &&
      aws_route53_resolver_firewall_rule.block.firewall_domain_list_id == aws_route53_resolver_firewall_domain_list.all.id &&
      aws_route53_resolver_firewall_rule.allow.firewall_domain_list_id == aws_route53_resolver_firewall_domain_list.allowed.id
    )
    error_message = "The rules must be those of this VPC's resolver."
  }
  assert {
    condition     = output.aws_access == { endpoint_security_group_id = aws_security_group.endpoints.id, s3_prefix_list_id = aws_vpc_endpoint.s3.prefix_list_id }
    error_message = "Security groups of clients must be able to name the endpoints, and nothing else."
  }
  assert {
    condition     = length(setintersection(values(output.route_table_ids), [aws_route_table.public.id])) == 0
    error_message = "The load balancer's subnets need no route to the other region."
  }
}

run "images_and_secrets_are_read_only" {
  command = plan

  assert {
    condition = alltrue([
      for service in ["ecr.api", "ecr.dkr", "secretsmanager"] : alltrue([
        for action in jsondecode(aws_vpc_endpoint.interface[service].policy).Statement[0].Action : can(regex(":(BatchCheck|BatchGet|Describe|Get)", action))
      ])
    ])
    error_message = "Nothing in this network may push an image or write a secret, with whatever credentials."
  }
}

run "further_endpoints_on_request" {
  command = plan

  variables {
    further_endpoints = ["sts", "eks-auth"]
  }

  assert {
    condition     = length(setsubtract(["sts", "eks-auth"], keys(aws_vpc_endpoint.interface))) == 0 && length(aws_vpc_endpoint.interface) == 9
    error_message = "An installation whose programs call another service must be able to have its endpoint."
  }
}

run "refuses_an_endpoint_that_it_has_no_policy_for" {
  command         = plan
  expect_failures = [var.further_endpoints]

  variables {
    further_endpoints = ["bedrock"]
  }
}

run "refuses_a_domain_with_a_path" {
  command         = plan
  expect_failures = [var.allowed_domains]

  variables {
    allowed_domains = ["https://example.com/packages"]
  }
}

run "refuses_a_zone_that_does_not_exist" {
  command         = plan
  expect_failures = [aws_vpc.this]

  variables {
    zones = ["eu-west-1a", "eu-west-1b", "eu-west-1z"]
  }
}

run "refuses_a_name_with_a_hyphen_at_its_end" {
  command         = plan
  expect_failures = [var.name]

  variables {
    name = "causeway-"
  }
}

run "refuses_a_name_with_two_hyphens" {
  command         = plan
  expect_failures = [var.name]

  variables {
    name = "causeway--test"
  }
}

run "refuses_s3_of_another_region_than_said" {
  command         = plan
  expect_failures = [var.remote_services]

  variables {
    remote_services = { lease = { service_name = "com.amazonaws.eu-north-1.s3", region = "eu-central-1" } }
  }
}

run "warns_of_the_network_of_docker" {
  command         = plan
  expect_failures = [check.docker]

  variables {
    cidr = "172.17.0.0/16"
  }
}

run "bucket_by_a_pattern" {
  command = plan
  variables {
    bucket_names = ["causeway-*"]
  }
  expect_failures = [var.bucket_names]
}
