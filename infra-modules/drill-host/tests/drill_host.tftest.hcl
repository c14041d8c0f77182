mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name           = "causeway-test"
  cluster        = "main"
  vpc_id         = "vpc-0123456789abcdef0"
  aws_access     = { endpoint_security_group_id = "sg-0e", s3_prefix_list_id = "pl-0a" }
  subnet         = { id = "subnet-0a", zone = "eu-west-1a" }
  instance_type  = "m7g.large"
  scratch_volume = { size_gib = 200, iops = 6000, throughput = 500 }
  kms_key_arn    = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  backup = {
    bucket_arns = ["arn:aws:s3:::causeway-test-backup-a", "arn:aws:s3:::causeway-test-backup-b"]
    kms_key_arns = [
      "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000",
      "arn:aws:kms:eu-central-1:123456789012:key/11111111-1111-1111-1111-111111111111",
    ]
  }
  identity_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/restore-drill-identity-AbCdEf"
}

override_data {
  target = data.aws_ec2_instance_type.this
  values = { supported_architectures = ["arm64"], hypervisor = "nitro", bare_metal = false, ebs_performance_baseline_iops = 20000, ebs_performance_baseline_throughput = 700 }
}

run "host_is_closed_and_encrypted" {
  command = plan

  assert {
    condition     = aws_instance.this.metadata_options[0].http_tokens == "required" && aws_instance.this.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "the host must require IMDSv2 with a hop limit of 1"
  }

  assert {
    condition     = !aws_instance.this.associate_public_ip_address && aws_instance.this.root_block_device[0].encrypted && aws_instance.this.subnet_id == "subnet-0a"
    error_message = "the host must have no public address, an encrypted root, and lie in the given subnet"
  }

  assert {
    condition = (
      alltrue([for rule in concat(aws_vpc_security_group_egress_rule.endpoints, aws_vpc_security_group_egress_rule.s3, aws_vpc_security_group_egress_rule.internet) : rule.from_port == 443 && rule.to_port == 443 && rule.cidr_ipv4 == null]) &&
      aws_vpc_security_group_egress_rule.endpoints[0].referenced_security_group_id == "sg-0e" && aws_vpc_security_group_egress_rule.s3[0].prefix_list_id == "pl-0a"
    )
    error_message = "the host must reach the endpoints and S3 by HTTPS, and no other address"
  }

  assert {
    condition     = aws_instance.this.root_block_device[0].kms_key_id == var.kms_key_arn && aws_iam_role_policy_attachment.session_manager.policy_arn == "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
    error_message = "the root volume must have the given key, and the host no policy of AWS but Session Manager's"
  }

  assert {
    condition     = aws_instance.this.tags["Role"] == "restore-drill"
    error_message = "the host must carry the tag by which the pipeline's role may reach it"
  }

  assert {
    condition     = aws_instance.this.ami == "ami-0123456789abcdef0" && endswith(data.aws_ssm_parameter.debian[0].name, "/arm64")
    error_message = "without an image the host must have Debian's, for its own architecture"
  }

  assert {
    condition     = strcontains(aws_instance.this.user_data, "amazon-ssm-eu-west-1") && !strcontains(aws_instance.this.user_data, "causeway-test")
    error_message = "the user data must install Systems Manager's agent, and say nothing of the installation"
  }
}

run "copy_has_a_volume_of_its_own" {
  command = plan

  assert {
    condition     = aws_ebs_volume.scratch.encrypted && aws_ebs_volume.scratch.kms_key_id == var.kms_key_arn && aws_ebs_volume.scratch.type == "gp3"
    error_message = "the copy must be encrypted with the given key"
  }

  assert {
    condition     = aws_ebs_volume.scratch.size == 200 && aws_ebs_volume.scratch.iops == 6000 && aws_ebs_volume.scratch.throughput == 500 && aws_ebs_volume.scratch.availability_zone == "eu-west-1a"
    error_message = "the volume must be as it was asked for, in the zone of the host"
  }
}

run "it_reads_and_nothing_else" {
  command = plan

  assert {
    condition = toset(flatten([for it in data.aws_iam_policy_document.restore.statement : it.actions if it.effect != "Deny"])) == toset([
      "kms:Decrypt", "s3:GetObject", "s3:ListBucket", "secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue",
    ])
    error_message = "the role must read, and never write or delete"
  }

  assert {
    condition = alltrue([
      for it in data.aws_iam_policy_document.restore.statement : toset(it.resources) == toset(["arn:aws:s3:::causeway-test-backup-a/main/*", "arn:aws:s3:::causeway-test-backup-b/main/*"])
      if contains(it.actions, "s3:GetObject")
    ])
    error_message = "it must read this cluster's backups of both regions"
  }

  assert {
    condition = alltrue([
      for it in data.aws_iam_policy_document.restore.statement : toset(it.resources) == toset([var.identity_secret_arn])
      if contains(it.actions, "secretsmanager:GetSecretValue")
    ])
    error_message = "it must read the one secret"
  }

  assert {
    condition = alltrue([
      for it in data.aws_iam_policy_document.restore.statement : length(it.condition) == 1
      if contains(it.actions, "kms:Decrypt")
    ])
    error_message = "a key must be used through S3 or Secrets Manager only"
  }

  assert {
    condition = one([
      for it in data.aws_iam_policy_document.restore.statement : "${it.effect} ${join(" ", it.not_resources)}" if contains(it.actions, "ssm:GetParameter")
    ]) == "Deny arn:aws:ssm:*:123456789012:parameter/causeway-test/* arn:aws:ssm:*::parameter/aws/service/*"
    error_message = "it must read the parameters of its own platform, and no other's"
  }

  assert {
    condition     = aws_iam_role.this.name == "causeway-test-restore-drill-eu-west-1" && output.role_arn == "arn:aws:iam::123456789012:role/causeway-test-restore-drill-eu-west-1"
    error_message = "the role must be called as the policies of the buckets name it"
  }
}

run "an_image_given_by_id" {
  command = plan

  variables {
    ami_id = "ami-0fedcba9876543210"
  }

  assert {
    condition     = aws_instance.this.ami == "ami-0fedcba9876543210"
    error_message = "the image must be an input"
  }
}
