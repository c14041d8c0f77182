# What is refused at plan, each with a sentence that says what to change. Inputs that are judged by
# themselves share a run: every one in `expect_failures` has to be refused.

mock_provider "aws" {
  source = "./tests/mocks"
}
mock_provider "aws" {
  alias  = "dr"
  source = "./tests/mocks"

  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
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
  cidrs       = { primary = "10.1.0.0/16", dr = "10.2.0.0/16" }
  network     = { zones = ["eu-west-1a", "eu-west-1b", "eu-west-1c"] }
  database = {
    nodes              = { eu-west-1a-1 = { zone = "eu-west-1a" }, eu-west-1b-1 = { zone = "eu-west-1b" } }
    instance_type      = "t4g.medium"
    data_volume        = { size_gib = 20 }
    wal_volume         = { size_gib = 10 }
    ca_certificate_pem = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
  }
  permissions_boundary = "arn:aws:iam::123456789012:policy/boundary/causeway-test-workload"
  dns                  = { public_zone = "example.com" }
  alarms               = { emails = ["platform-team@example.com"] }
  api_platform         = "none"
}

run "invalid_inputs" {
  command = plan
  variables {
    environment      = "an-environment-of-a-long-name"
    owner            = ""
    regions          = { dr = "eu-west-1" }                              # the primary region
    cidrs            = { primary = "10.1.0.0/16", dr = "10.1.128.0/20" } # overlap
    monitoring_cidrs = ["0.0.0.0/0"]                                     # administration from anywhere
    backup           = { interval_hours = 48, retention_days = 1, object_lock = { days = 1 } }
  }
  expect_failures = [var.environment, var.owner, var.regions, var.cidrs, var.monitoring_cidrs, var.backup]
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
    cidrs            = { primary = "10.1.0.1/16", dr = "10.2.0.0/16" } # host bits
    monitoring_cidrs = ["203.0.113.0/24"]                              # a public network
  }
  expect_failures = [var.regions, var.cidrs, var.monitoring_cidrs]
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
    network    = { zones = ["eu-west-1a", "eu-west-1b", "eu-west-1c"], nat = "one" }
  }
  expect_failures = [var.cache, var.monitoring]
}

run "one_zone" {
  command = plan
  variables {
    network = { zones = ["eu-west-1a"] }
    database = {
      nodes              = { eu-west-1a-1 = { zone = "eu-west-1a" } }
      automatic_failover = false
      instance_type      = "t4g.medium"
      data_volume        = { size_gib = 20 }
      wal_volume         = { size_gib = 10 }
    }
  }
  expect_failures = [var.network]
}

run "zone_of_another_region" {
  command = plan
  variables {
    network = { zones = ["eu-west-1a", "eu-west-1b", "eu-central-1a"] }
  }
  expect_failures = [var.network]
}

run "no_standby_while_failover_is_automatic" {
  command = plan
  variables {
    database = {
      nodes         = { eu-west-1a-1 = { zone = "eu-west-1a" } }
      instance_type = "t4g.medium"
      data_volume   = { size_gib = 20 }
      wal_volume    = { size_gib = 10 }
    }
  }
  expect_failures = [var.database]
}

run "standby_in_the_same_zone" {
  command = plan
  variables {
    database = {
      nodes         = { eu-west-1a-1 = { zone = "eu-west-1a" }, eu-west-1a-2 = { zone = "eu-west-1a" } }
      instance_type = "t4g.medium"
      data_volume   = { size_gib = 20 }
      wal_volume    = { size_gib = 10 }
    }
  }
  expect_failures = [var.database]
}

run "endpoints_in_one_zone_while_failover_is_automatic" {
  command = plan
  variables {
    network = { zones = ["eu-west-1a", "eu-west-1b", "eu-west-1c"], endpoints = "one" }
  }
  expect_failures = [var.database]
}

run "nat_in_one_zone_without_endpoints" {
  command = plan
  variables {
    network = { zones = ["eu-west-1a", "eu-west-1b", "eu-west-1c"], endpoints = "none", nat = "one" }
  }
  expect_failures = [var.database]
}

run "node_in_a_zone_without_endpoints" {
  command = plan
  variables {
    network = { zones = ["eu-west-1a", "eu-west-1c", "eu-west-1b"], endpoints = "two" }
  }
  expect_failures = [var.database]
}

run "node_name_without_its_zone" {
  command = plan
  variables {
    database = {
      nodes         = { pg-1 = { zone = "eu-west-1a" }, pg-2 = { zone = "eu-west-1b" } }
      instance_type = "t4g.medium"
      data_volume   = { size_gib = 20 }
      wal_volume    = { size_gib = 10 }
    }
  }
  expect_failures = [var.database]
}

run "api_without_a_ca_certificate" {
  command = plan
  variables {
    network      = { zones = ["eu-west-1a", "eu-west-1b", "eu-west-1c"], nat = "one" }
    api_platform = "eks"
    eks = {
      kubernetes_version = "1.36"
      node               = { instance_types = ["m7g.large"], min = 1, max = 6, desired = 1, ami_type = "AL2023_ARM_64_STANDARD" }
      admin_role_arns    = ["arn:aws:iam::123456789012:role/admin"]
    }
    database = {
      nodes         = { eu-west-1a-1 = { zone = "eu-west-1a" }, eu-west-1b-1 = { zone = "eu-west-1b" } }
      instance_type = "t4g.medium"
      data_volume   = { size_gib = 20 }
      wal_volume    = { size_gib = 10 }
    }
  }
  expect_failures = [var.database]
}

run "boundary_of_another_account" {
  command = plan
  variables {
    permissions_boundary  = "arn:aws:iam::210987654321:policy/boundary/causeway-test-workload"
    secrets_recovery_days = 3
    pooler_clients        = { reports = { cidr = "10.1.64.0/20" } }        # within this region's network
    monitoring            = { instance_type = "t4g.small", canary = true } # without a NAT gateway
    api_platform          = "ecs"
    api                   = { image = "ghcr.io/example/api:0.1.0", tasks = { min = 1, max = 2, desired = 1 } }
  }
  expect_failures = [var.permissions_boundary, var.secrets_recovery_days, var.pooler_clients, var.monitoring]
}

run "image_of_the_dr_region" {
  command = plan
  variables {
    api_platform = "ecs"
    api = {
      image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/causeway/api:0.1.0"
      tasks = { min = 1, max = 2, desired = 1 }
    }
  }
  expect_failures = [var.api]
}

run "no_api_while_infra_dr_has_one" {
  command = plan
  override_data {
    target = data.aws_ssm_parameters_by_path.dr
    values = {
      names = ["/causeway-test/dr/shared-values"]
      values = [
        "{\"data_cidrs\":[\"10.2.128.0/20\"],\"nodes\":{},\"backup\":{\"bucket\":\"causeway-dr\",\"arn\":\"arn:aws:s3:::causeway-dr\",\"kms_key_arn\":\"arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000\"},\"replication\":[],\"api_target\":\"api-eu-central-1.example.com\"}",
      ]
    }
  }
  expect_failures = [data.aws_ssm_parameters_by_path.dr]
}

run "public_certificates_on_eks" {
  command = plan
  variables {
    api_platform = "eks"
    network      = { zones = ["eu-west-1a", "eu-west-1b", "eu-west-1c"], nat = "one" }
    eks = {
      kubernetes_version = "1.36"
      node               = { instance_types = ["m7g.large"], min = 3, max = 6, desired = 3, ami_type = "AL2023_ARM_64_STANDARD" }
      admin_role_arns    = ["arn:aws:iam::123456789012:role/admin"]
    }
    database = {
      nodes               = { eu-west-1a-1 = { zone = "eu-west-1a" }, eu-west-1b-1 = { zone = "eu-west-1b" } }
      instance_type       = "t4g.medium"
      data_volume         = { size_gib = 20 }
      wal_volume          = { size_gib = 10 }
      ca_certificate_pem  = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
      public_certificates = true
    }
  }
  expect_failures = [var.database]
}
