mock_provider "aws" {
  source          = "./tests/mocks"
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

run "host_is_closed_and_encrypted" {
  command = plan

  assert {
    condition     = aws_instance.this.metadata_options[0].http_tokens == "required" && aws_instance.this.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "the host must require IMDSv2 with a hop limit of 1"
  }

  assert {
    condition     = !aws_instance.this.associate_public_ip_address && aws_instance.this.root_block_device[0].encrypted && aws_instance.this.root_block_device[0].kms_key_id == var.kms_key_arn && aws_instance.this.root_block_device[0].volume_size == 30
    error_message = "the host must have no public address, and a root volume of the given size that is encrypted with the given key"
  }

  assert {
    condition     = aws_instance.this.tags["Role"] == "monitoring" && aws_instance.this.tags["Node"] == "monitoring-eu-west-1" && !contains(keys(aws_instance.this.tags), "Cluster") && strcontains(aws_instance.this.user_data, "amazon-ssm-eu-west-1")
    error_message = "the host must carry the tags by which Ansible finds it, not that by which nodes stop each other, and install Systems Manager's agent"
  }

  assert {
    condition     = aws_instance.this.ami == "ami-0123456789abcdef0" && endswith(data.aws_ssm_parameter.debian[0].name, "/arm64")
    error_message = "without an image the host must have Debian's, for its own architecture"
  }

  assert {
    condition = toset([for rule in aws_vpc_security_group_egress_rule.targets : "${rule.from_port} ${rule.cidr_ipv4}"]) == toset(flatten([
      for port in [8009, 9100, 9187, 9090] : [for cidr in var.target_cidrs : "${port} ${cidr}"]
    ]))
    error_message = "the host must reach the agents, the exporters and the API's metrics of both regions"
  }

  assert {
    condition     = aws_vpc_security_group_egress_rule.endpoints[0].referenced_security_group_id == "sg-0e" && length(aws_vpc_security_group_egress_rule.internet) == 0
    error_message = "the host must reach AWS through the endpoints, and no other address"
  }
}

run "it_lists_tasks_and_publishes_alerts" {
  command = plan

  assert {
    condition     = toset(flatten([for s in data.aws_iam_policy_document.monitor.statement : s.actions if s.effect != "Deny"])) == toset(["ecs:ListTasks", "ecs:DescribeTasks", "sns:Publish", "kms:Decrypt", "kms:GenerateDataKey"])
    error_message = "the role must be able to do nothing else"
  }

  assert {
    condition = alltrue([
      for s in data.aws_iam_policy_document.monitor.statement : toset(s.resources) == toset(["arn:aws:ecs:eu-west-1:123456789012:task/causeway-test-api/*"]) if contains(s.actions, "ecs:DescribeTasks")
      ]) && alltrue([
      for s in data.aws_iam_policy_document.monitor.statement : one(one(s.condition).values) == "arn:aws:ecs:eu-west-1:123456789012:cluster/causeway-test-api" if contains(s.actions, "ecs:ListTasks")
    ])
    error_message = "it must see the tasks of the API's cluster, and of no other"
  }

  assert {
    condition     = one([for s in data.aws_iam_policy_document.monitor.statement : one(s.resources) if contains(s.actions, "sns:Publish")]) == var.alarm_topic_arn
    error_message = "it must publish to the region's topic"
  }
}

run "without_ecs_no_tasks" {
  command = plan
  variables {
    ecs_cluster_name = null
    aws_access       = null
    ami_id           = "ami-0fedcba9876543210"
  }

  assert {
    condition     = !contains(flatten([for s in data.aws_iam_policy_document.monitor.statement : s.actions]), "ecs:ListTasks") && length(aws_vpc_security_group_egress_rule.internet) == 1
    error_message = "without a cluster there is nothing to list"
  }

  assert {
    condition     = aws_instance.this.ami == "ami-0fedcba9876543210"
    error_message = "the image must be an input"
  }
}

run "invalid_inputs" {
  command = plan
  variables {
    name            = "Causeway"
    ami_id          = "debian"
    volume_size_gib = 20
    target_cidrs    = ["0.0.0.0/0"]
  }
  expect_failures = [var.name, var.ami_id, var.volume_size_gib, var.target_cidrs]
}

run "image_of_another_architecture" {
  command = plan
  variables {
    ami_id = "ami-0fedcba9876543210"
  }
  override_data {
    target = data.aws_ami.this
    values = { architecture = "x86_64" }
  }
  expect_failures = [aws_instance.this]
}
