mock_provider "aws" {
  source          = "../private-host/tests/mocks"
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

  monitoring_cidrs = ["10.1.64.0/20", "10.2.64.0/20"]
  kms_key_arn      = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
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

run "role_reads_and_nothing_else" {
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
    error_message = "the host must read this cluster's backups of both regions"
  }

  assert {
    condition = alltrue([
      for it in data.aws_iam_policy_document.restore.statement : toset(it.resources) == toset([var.identity_secret_arn])
      if contains(it.actions, "secretsmanager:GetSecretValue")
    ])
    error_message = "the host must read the one secret"
  }

  assert {
    condition = alltrue([
      for it in data.aws_iam_policy_document.restore.statement : length(it.condition) == 1
      if contains(it.actions, "kms:Decrypt")
    ])
    error_message = "a key must be used through S3 or Secrets Manager only"
  }

  assert {
    condition     = aws_iam_role_policy.restore.role == module.host.role_name && output.role_arn == "arn:aws:iam::123456789012:role/causeway-test-restore-drill-eu-west-1"
    error_message = "the policy must be that of the role which the policies of the buckets name"
  }
}

run "prometheus_reaches_the_node_exporter_alone" {
  command = plan

  assert {
    condition = {
      for label, rule in aws_vpc_security_group_ingress_rule.monitoring : label => [rule.ip_protocol, rule.from_port, rule.to_port, rule.cidr_ipv4]
      } == {
      "10.1.64.0/20" = ["tcp", 9100, 9100, "10.1.64.0/20"]
      "10.2.64.0/20" = ["tcp", 9100, 9100, "10.2.64.0/20"]
    }
    error_message = "the networks of Prometheus must reach the port of the node exporter, and no other port"
  }
}
