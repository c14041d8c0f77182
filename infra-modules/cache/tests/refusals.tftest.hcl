# Invalid inputs are rejected at plan, each with the remedy.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name                      = "causeway-test"
  vpc_id                    = "vpc-0123456789abcdef0"
  subnet_ids                = ["subnet-0a", "subnet-0b"]
  client_security_group_ids = { api = "sg-0a" }
  kms_key_arn               = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
}

run "a_name_with_two_hyphens" {
  command = plan
  variables {
    name = "causeway--test"
  }
  expect_failures = [var.name]
}

run "replicas_in_one_zone" {
  command = plan
  variables {
    subnet_ids = ["subnet-0a"]
  }
  expect_failures = [var.subnet_ids]
}

run "a_type_of_ec2" {
  command = plan
  variables {
    node_type = "t4g.small"
  }
  expect_failures = [var.node_type]
}

run "too_many_replicas" {
  command = plan
  variables {
    replicas = 6
  }
  expect_failures = [var.replicas]
}

run "half_a_replica" {
  command = plan
  variables {
    replicas = 0.5
  }
  expect_failures = [var.replicas]
}

run "an_old_version" {
  command = plan
  variables {
    engine_version = "6.2"
  }
  expect_failures = [var.engine_version]
}

run "a_version_zero" {
  command = plan
  variables {
    auth_version = 0
  }
  expect_failures = [var.auth_version]
}

run "a_type_without_a_size" {
  command = plan
  variables {
    node_type = "cache.small"
  }
  expect_failures = [var.node_type]
}

run "a_key_of_another_region" {
  command = plan
  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  }
  expect_failures = [aws_elasticache_replication_group.this]
}
