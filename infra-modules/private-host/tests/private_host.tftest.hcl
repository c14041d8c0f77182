mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name                 = "causeway-test"
  role                 = "monitoring"
  title                = "Prometheus"
  vpc_id               = "vpc-0123456789abcdef0"
  subnet_id            = "subnet-0a"
  instance_type        = "t4g.small"
  root_volume_size_gib = 30
  kms_key_arn          = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  aws_access           = { endpoint_security_group_id = "sg-0e", s3_prefix_list_id = "pl-0a" }
  permissions_boundary = "arn:aws:iam::123456789012:policy/boundary/causeway-test-workload"
}

run "host_is_closed_and_encrypted" {
  command = plan

  assert {
    condition     = aws_instance.this.metadata_options[0].http_tokens == "required" && aws_instance.this.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "the host must require IMDSv2 with a hop limit of 1"
  }

  assert {
    condition     = !aws_instance.this.associate_public_ip_address && aws_instance.this.subnet_id == "subnet-0a" && aws_instance.this.vpc_security_group_ids == toset([aws_security_group.this.id])
    error_message = "the host must have no public address, and lie in the given subnet behind its own security group"
  }

  assert {
    condition     = aws_instance.this.root_block_device[0].encrypted && aws_instance.this.root_block_device[0].kms_key_id == var.kms_key_arn && aws_instance.this.root_block_device[0].volume_size == 30
    error_message = "the root volume must have the given size, and be encrypted with the given key"
  }

  assert {
    condition     = aws_instance.this.ami == "ami-0123456789abcdef0" && endswith(data.aws_ssm_parameter.debian[0].name, "/arm64")
    error_message = "without an image the host must have Debian's, for its own architecture"
  }

  assert {
    condition     = strcontains(aws_instance.this.user_data, "amazon-ssm-eu-west-1") && !strcontains(aws_instance.this.user_data, "causeway-test")
    error_message = "the user data must install Systems Manager's agent, and say nothing of the installation"
  }

  assert {
    condition     = aws_instance.this.tags == tomap({ Name = "causeway-test-monitoring", Role = "monitoring" })
    error_message = "the host must carry the tag by which Ansible finds it, and not that by which nodes stop each other"
  }
}

run "role_is_for_sessions_and_within_its_boundary" {
  command = plan

  assert {
    condition     = aws_iam_role_policy_attachment.session_manager.policy_arn == "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore" && aws_iam_role.this.permissions_boundary == var.permissions_boundary
    error_message = "of AWS's own policies the host must have Session Manager's alone, within the boundary"
  }

  assert {
    condition = one([
      for statement in data.aws_iam_policy_document.parameters.statement : "${statement.effect} ${join(" ", statement.actions)} ${join(" ", statement.not_resources)}"
    ]) == "Deny ssm:GetParameter ssm:GetParameters arn:aws:ssm:*:123456789012:parameter/causeway-test/* arn:aws:ssm:*::parameter/aws/service/*"
    error_message = "the host must read the parameters of its own platform, and no other's"
  }

  assert {
    condition     = aws_iam_role.this.name == "causeway-test-monitoring-eu-west-1" && output.role_arn == "arn:aws:iam::123456789012:role/causeway-test-monitoring-eu-west-1" && aws_instance.this.iam_instance_profile == aws_iam_role.this.name
    error_message = "the role must be called as other policies name it, and be the host's"
  }
}

run "named_host_of_a_given_image" {
  command = plan
  variables {
    ami_id = "ami-0fedcba9876543210"
    node   = "monitoring-eu-west-1"
  }

  assert {
    condition     = aws_instance.this.ami == "ami-0fedcba9876543210" && aws_instance.this.tags["Node"] == "monitoring-eu-west-1"
    error_message = "the image and the name in the inventory must be inputs"
  }
}

run "invalid_inputs" {
  command = plan
  variables {
    name   = "Causeway"
    ami_id = "debian"
  }
  expect_failures = [var.name, var.ami_id]
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
