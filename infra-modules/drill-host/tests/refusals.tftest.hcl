# Invalid inputs are rejected at plan, each with the remedy.

mock_provider "aws" {
  source          = "../private-host/tests/mocks"
  override_during = plan
}

variables {
  name                = "causeway-test"
  cluster             = "main"
  vpc_id              = "vpc-0123456789abcdef0"
  aws_access          = { endpoint_security_group_id = "sg-0e", s3_prefix_list_id = "pl-0a" }
  subnet              = { id = "subnet-0a", zone = "eu-west-1a" }
  instance_type       = "m7g.large"
  scratch_volume      = { size_gib = 200 }
  kms_key_arn         = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  backup              = { bucket_arns = ["arn:aws:s3:::causeway-test-backup"], kms_key_arns = ["arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"] }
  identity_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/restore-drill-identity-AbCdEf"
}

run "a_cluster_with_a_slash" {
  command = plan
  variables {
    cluster = "main/other"
  }
  expect_failures = [var.cluster]
}

run "a_small_volume" {
  command = plan
  variables {
    scratch_volume = { size_gib = 5 }
  }
  expect_failures = [var.scratch_volume]
}

run "too_many_operations" {
  command = plan
  variables {
    scratch_volume = { size_gib = 20, iops = 12000 }
  }
  expect_failures = [var.scratch_volume]
}

run "too_much_throughput" {
  command = plan
  variables {
    scratch_volume = { size_gib = 200, throughput = 1000 }
  }
  expect_failures = [var.scratch_volume]
}

run "no_backups" {
  command = plan
  variables {
    backup = { bucket_arns = [], kms_key_arns = [] }
  }
  expect_failures = [var.backup]
}

run "instance_type_of_another_hypervisor" {
  command = plan
  override_data {
    target = data.aws_ec2_instance_type.this
    values = { supported_architectures = ["x86_64"], hypervisor = "xen", bare_metal = false, ebs_performance_baseline_iops = 3600, ebs_performance_baseline_throughput = 56.25 }
  }
  expect_failures = [aws_volume_attachment.scratch]
}

run "throughput_beyond_the_instance_type" {
  command = plan
  variables {
    scratch_volume = { size_gib = 200, throughput = 250 }
  }
  expect_failures = [check.volume_fits_the_instance_type]
}

run "a_secret_by_its_name" {
  command = plan
  variables {
    identity_secret_arn = "causeway-test/restore-drill-identity"
  }
  expect_failures = [var.identity_secret_arn]
}

run "metrics_for_a_public_network" {
  command = plan
  variables {
    monitoring_cidrs = ["10.1.64.0/20", "203.0.113.0/24"]
  }
  expect_failures = [var.monitoring_cidrs]
}
