mock_provider "aws" {
  source          = "../private-host/tests/mocks"
  override_during = plan
}

variables {
  name             = "causeway-test"
  vpc_id           = "vpc-0123456789abcdef0"
  subnet_id        = "subnet-0a"
  instance_type    = "t4g.small"
  volume_size_gib  = 30
  kms_key_arn      = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  aws_access       = { endpoint_security_group_id = "sg-0e", s3_prefix_list_id = "pl-0a" }
  target_cidrs     = ["10.1.0.0/16", "10.2.0.0/16"]
  ecs_cluster_name = "causeway-test-api"
  alarm_topic_arn  = "arn:aws:sns:eu-west-1:123456789012:causeway-test-alarms"
}

run "host_scrapes_both_regions" {
  command = plan

  assert {
    condition = toset([for rule in aws_vpc_security_group_egress_rule.targets : "${rule.security_group_id} ${rule.from_port} ${rule.cidr_ipv4}"]) == toset(flatten([
      for port in [8009, 9100, 9187, 9090] : [for cidr in var.target_cidrs : "${module.host.security_group_id} ${port} ${cidr}"]
    ]))
    error_message = "the host must reach the agents, the exporters and the API's metrics of both regions"
  }
}

run "pooler_then_its_exporter_is_scraped" {
  command = plan
  variables {
    pooler = true
  }

  assert {
    condition     = toset([for rule in aws_vpc_security_group_egress_rule.targets : rule.cidr_ipv4 if rule.from_port == 9127 && rule.to_port == 9127]) == toset(var.target_cidrs)
    error_message = "the host must reach the exporters of the poolers"
  }
}

run "one_monitoring_host_then_nothing_is_admitted" {
  command = plan

  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.peer) == 0 && length(aws_vpc_security_group_egress_rule.peer) == 0
    error_message = "without another monitoring host nothing connects to this one"
  }
}

run "host_of_the_other_region_then_alertmanagers_are_peers" {
  command = plan
  variables {
    peer_addresses = ["10.2.128.30"]
  }

  assert {
    condition     = toset([for rule in aws_vpc_security_group_ingress_rule.peer : "${rule.ip_protocol} ${rule.from_port}-${rule.to_port} ${rule.cidr_ipv4}"]) == toset(["tcp 9094-9094 10.2.128.30/32", "udp 9094-9094 10.2.128.30/32", "tcp 9100-9100 10.2.128.30/32"])
    error_message = "the other host must reach Alertmanager over TCP and UDP, and the node exporter"
  }

  assert {
    condition     = toset([for rule in aws_vpc_security_group_egress_rule.peer : "${rule.ip_protocol} ${rule.from_port}-${rule.to_port} ${rule.cidr_ipv4}"]) == toset(["tcp 9094-9094 10.2.128.30/32", "udp 9094-9094 10.2.128.30/32"])
    error_message = "the host must reach the other's Alertmanager"
  }
}

run "no_canary_then_no_way_out" {
  command = plan

  assert {
    condition     = length(aws_vpc_security_group_egress_rule.canary) == 0
    error_message = "a host without a canary must reach AWS and its targets alone"
  }
}

run "canary_then_https_to_the_api" {
  command = plan
  variables {
    canary = true
  }

  assert {
    condition     = [for rule in aws_vpc_security_group_egress_rule.canary : "${rule.security_group_id} ${rule.ip_protocol} ${rule.from_port}-${rule.to_port} ${rule.cidr_ipv4}"] == ["${module.host.security_group_id} tcp 443-443 0.0.0.0/0"]
    error_message = "a canary must reach the load balancer's public addresses by HTTPS"
  }
}

run "canary_without_endpoints_then_one_rule" {
  command = plan
  variables {
    canary     = true
    aws_access = null
  }

  assert {
    condition     = length(aws_vpc_security_group_egress_rule.canary) == 0
    error_message = "AWS refuses a second rule for the same addresses"
  }
}

run "role_lists_tasks_and_publishes_alerts" {
  command = plan

  assert {
    condition     = toset(flatten([for s in data.aws_iam_policy_document.monitor.statement : s.actions if s.effect != "Deny"])) == toset(["ecs:ListTasks", "ecs:DescribeTasks", "sns:Publish", "kms:Decrypt", "kms:GenerateDataKey"]) && aws_iam_role_policy.monitor.role == module.host.role_name
    error_message = "the host's role must be able to do nothing else"
  }

  assert {
    condition = alltrue([
      for s in data.aws_iam_policy_document.monitor.statement : toset(s.resources) == toset(["arn:aws:ecs:eu-west-1:123456789012:task/causeway-test-api/*"]) if contains(s.actions, "ecs:DescribeTasks")
      ]) && alltrue([
      for s in data.aws_iam_policy_document.monitor.statement : one(one(s.condition).values) == "arn:aws:ecs:eu-west-1:123456789012:cluster/causeway-test-api" if contains(s.actions, "ecs:ListTasks")
    ])
    error_message = "the host must see the tasks of the API's cluster, and of no other"
  }

  assert {
    condition     = one([for s in data.aws_iam_policy_document.monitor.statement : one(s.resources) if contains(s.actions, "sns:Publish")]) == var.alarm_topic_arn
    error_message = "the host must publish to the region's topic"
  }
}

run "without_ecs_no_tasks" {
  command = plan
  variables {
    ecs_cluster_name = null
  }

  assert {
    condition     = !contains(flatten([for s in data.aws_iam_policy_document.monitor.statement : s.actions]), "ecs:ListTasks")
    error_message = "without a cluster there is nothing to list"
  }
}

run "invalid_inputs" {
  command = plan
  variables {
    volume_size_gib = 20
    target_cidrs    = ["0.0.0.0/0"]
    peer_addresses  = ["203.0.113.7"]
  }
  expect_failures = [var.volume_size_gib, var.target_cidrs, var.peer_addresses]
}
