# What is refused at plan, each with a sentence that says what to change. Inputs that are judged by
# themselves share a run: every one in `expect_failures` has to be refused.

mock_provider "aws" {
  source = "./tests/mocks"
}
mock_provider "aws" {
  alias  = "primary"
  source = "./tests/mocks"

  mock_data "aws_region" {
    defaults = { region = "eu-west-1" }
  }
}
mock_provider "aws" {
  alias  = "lease"
  source = "./tests/mocks"

  mock_data "aws_region" {
    defaults = { region = "eu-north-1" }
  }
}

variables {
  environment = "test"
  owner       = "platform-team"
  network     = { zones = ["eu-central-1a", "eu-central-1b", "eu-central-1c"] }
  database = {
    nodes = { eu-central-1a-1 = { zone = "eu-central-1a" } }
  }
  alarms       = { emails = ["platform-team@example.com"] }
  api_platform = "none"
}

run "invalid_inputs" {
  command = plan
  variables {
    environment      = "an-environment-of-a-long-name"
    owner            = ""
    regions          = { dr = "eu-west-1" } # the primary region
    monitoring_cidrs = ["0.0.0.0/0"]        # administration from anywhere
  }
  expect_failures = [var.environment, var.owner, var.regions, var.monitoring_cidrs]
}

run "unknown_api_platform" {
  command = plan
  variables {
    api_platform = "lambda"
  }
  expect_failures = [var.api_platform]
}

run "ecs_without_api" {
  command = plan
  variables {
    api_platform = "ecs"
  }
  expect_failures = [var.api_platform]
}

run "eks_without_eks" {
  command = plan
  variables {
    api_platform = "eks"
  }
  expect_failures = [var.api_platform]
}

run "lease_in_the_primary_region" {
  command = plan
  variables {
    regions          = { lease = "eu-west-1" }
    monitoring_cidrs = ["203.0.113.0/24"] # a public network
    api_platform     = "ecs"              # and no `api`
  }
  expect_failures = [var.regions, var.monitoring_cidrs]
}

run "lease_in_the_dr_region" {
  command = plan
  variables {
    regions = { lease = "eu-central-1" }
  }
  expect_failures = [var.regions]
}

run "cache_and_canary_without_an_api" {
  command = plan
  variables {
    cache      = {}
    monitoring = { instance_type = "t4g.small", canary = true }
    network    = { zones = ["eu-central-1a", "eu-central-1b", "eu-central-1c"], nat = "one" }
  }
  expect_failures = [var.cache, var.monitoring]
}

run "inputs_that_do_not_fit_infra_primarys" {
  command = plan
  variables {
    restore_drill  = { instance_type = "t4g.medium", scratch_volume = { size_gib = 10 } } # smaller than the data
    pooler_clients = { reports = { cidr = "10.2.64.0/20" } }                              # within this region's network
    monitoring     = { instance_type = "t4g.small", canary = true }                       # without a NAT gateway
    api_platform   = "ecs"
    api            = { tasks = { min = 1, max = 2, desired = 1 }, active_tasks = { min = 3, max = 9, desired = 3 } }
  }
  expect_failures = [var.restore_drill, var.pooler_clients, var.monitoring]
}

run "one_zone" {
  command = plan
  variables {
    network = { zones = ["eu-central-1a"] }
  }
  expect_failures = [var.network]
}

run "zone_of_another_region" {
  command = plan
  variables {
    network = { zones = ["eu-central-1a", "eu-central-1b", "eu-west-1a"] }
  }
  expect_failures = [var.network]
}

run "nothing_to_promote" {
  command = plan
  variables {
    database = {
      nodes = {}
    }
  }
  expect_failures = [var.database]
}

run "node_name_without_its_zone" {
  command = plan
  variables {
    database = {
      nodes = { pg-1 = { zone = "eu-central-1a" } }
    }
  }
  expect_failures = [var.database]
}

run "volumes_smaller_than_the_primarys" {
  command = plan
  variables {
    database = {
      nodes       = { eu-central-1a-1 = { zone = "eu-central-1a" } }
      data_volume = { size_gib = 19 }
      wal_volume  = { size_gib = 9 }
    }
  }
  expect_failures = [var.database]
}

run "image_of_the_primary_region" {
  command = plan
  variables {
    api_platform = "ecs"
    api = {
      image        = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/causeway/api:0.1.0"
      tasks        = { min = 1, max = 2, desired = 1 }
      active_tasks = { min = 3, max = 9, desired = 3 }
    }
  }
  expect_failures = [var.api]
}

run "other_regions_than_infra_primary" {
  command = plan
  variables {
    regions = { lease = "eu-west-3" }
  }
  expect_failures = [data.aws_ssm_parameters_by_path.primary]
}

run "primary_not_applied" {
  command = plan
  override_data {
    target = data.aws_ssm_parameters_by_path.primary
    values = { names = [], values = [] }
  }
  expect_failures = [data.aws_ssm_parameters_by_path.primary]
}

run "api_without_validation_records" {
  command = plan
  variables {
    network      = { zones = ["eu-central-1a", "eu-central-1b", "eu-central-1c"], nat = "one" }
    api_platform = "eks"
    eks = {
      kubernetes_version = "1.36"
      node               = { instance_types = ["m7g.large"], min = 1, max = 6, desired = 1, ami_type = "AL2023_ARM_64_STANDARD" }
      admin_role_arns    = ["arn:aws:iam::123456789012:role/admin"]
    }
  }
  override_data {
    target = data.aws_ssm_parameters_by_path.primary
    values = {
      names = ["/causeway-test/primary/ca-certificate", "/causeway-test/primary/shared-values"]
      values = [
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "{\"dns\":{\"ttl_secs\":5,\"health_check\":{\"path\":\"/readyz\",\"interval_seconds\":10,\"failure_threshold\":3}},\"vpc_id\":\"vpc-0a1b2c3d4e5f60001\",\"cidr\":\"10.1.0.0/16\",\"route_table_ids\":{\"private-eu-west-1a\":\"rtb-0a1b2c3d4e5f60001\",\"data\":\"rtb-0a1b2c3d4e5f60002\"},\"data_cidrs\":[\"10.1.128.0/20\",\"10.1.144.0/20\",\"10.1.160.0/20\"],\"monitoring\":null,\"pooler\":false,\"nodes\":{\"eu-west-1a-1\":{\"region\":\"eu-west-1\",\"zone\":\"eu-west-1a\",\"address\":\"eu-west-1a-1.causeway.internal\",\"private_ip\":\"10.1.128.11\",\"instance_id\":\"i-0a1b2c3d4e5f60001\",\"data_volume_id\":\"vol-0a1b2c3d4e5f60001\",\"wal_volume_id\":\"vol-0a1b2c3d4e5f60002\"}},\"cluster\":\"main\",\"lease\":{\"bucket\":\"causeway-lease\",\"arn\":\"arn:aws:s3:::causeway-lease\",\"region\":\"eu-north-1\"},\"backup\":{\"bucket\":\"causeway-primary\",\"arn\":\"arn:aws:s3:::causeway-primary\",\"kms_key_arn\":\"arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000\"},\"secrets\":{\"arns\":{\"api-owner\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/api-owner-AbCdEf\",\"api-service\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/api-service-AbCdEf\",\"monitoring\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/monitoring-AbCdEf\",\"command-signing-key\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/command-signing-key-AbCdEf\",\"replicator\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/replicator-AbCdEf\",\"rewinder\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/rewinder-AbCdEf\"},\"kms_key_arn\":\"arn:aws:kms:eu-central-1:123456789012:key/22222222-2222-2222-2222-222222222222\"},\"private_zone\":{\"id\":\"Z0123456789PRIVATE00\",\"name\":\"causeway.internal\"},\"public_zone\":{\"id\":\"Z0123456789PUBLIC000\",\"name\":\"example.com\"},\"names\":{\"writer\":\"db-writer.causeway.internal\",\"reader\":\"db-reader.causeway.internal\",\"api\":\"api.example.com\",\"api_auto\":\"api-auto.example.com\"},\"validated_names\":[],\"api_target\":\"api-eu-west-1.example.com\",\"regions\":{\"primary\":\"eu-west-1\",\"dr\":\"eu-central-1\",\"lease\":\"eu-north-1\"},\"cidrs\":{\"primary\":\"10.1.0.0/16\",\"dr\":\"10.2.0.0/16\"},\"database\":{\"name\":\"causeway\",\"public_certificates\":false,\"instance_type\":\"t4g.medium\",\"data_volume\":{\"size_gib\":20,\"iops\":3000,\"throughput\":125},\"wal_volume\":{\"size_gib\":10,\"iops\":3000,\"throughput\":125}},\"image_version\":\":0.1.0\",\"boundary\":\"arn:aws:iam::123456789012:policy/boundary/causeway-test-workload\",\"recovery_days\":0,\"retention\":{\"interval_hours\":24,\"retention_days\":7,\"object_lock\":{\"mode\":\"GOVERNANCE\",\"days\":3},\"noncurrent_days\":3,\"size_alarm_gib\":60,\"expirer\":null,\"replication\":false}}",
      ]
    }
  }
  expect_failures = [data.aws_ssm_parameters_by_path.primary]
}
