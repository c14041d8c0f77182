# What can be chosen, and the first apply. The API on ECS is in tests/examples.

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
    nodes         = { eu-west-1a-1 = { zone = "eu-west-1a" }, eu-west-1b-1 = { zone = "eu-west-1b" } }
    instance_type = "t4g.medium"
    data_volume   = { size_gib = 20 }
    wal_volume    = { size_gib = 10 }

    ca_certificate_pem = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
  }
  permissions_boundary = "arn:aws:iam::123456789012:policy/boundary/causeway-test-workload"
  dns                  = { public_zone = "example.com" }
  alarms               = { emails = ["platform-team@example.com"] }
  api_platform         = "none"
}

run "before_infra_dr" {
  command = plan
  override_data {
    target = data.aws_ssm_parameters_by_path.dr
    values = { names = [], values = [] }
  }

  # A warning: the region works, and is applied once more when the other is there.
  expect_failures = [check.dr]
}

run "no_api" {
  command = plan

  assert {
    condition     = output.api_url == null && output.certificate_arn == null
    error_message = "without an API there is neither a name nor a certificate"
  }
}

run "a_way_to_the_lease_in_each_zone_with_a_node" {
  command = plan
  variables {
    network = { zones = ["eu-west-1a", "eu-west-1b", "eu-west-1c"], endpoints = "none", nat = "two" }
  }
}

run "endpoints_in_one_zone_without_automatic_failover" {
  command = plan
  variables {
    network = { zones = ["eu-west-1a", "eu-west-1b", "eu-west-1c"], endpoints = "one" }
    database = {
      nodes              = { eu-west-1a-1 = { zone = "eu-west-1a" }, eu-west-1b-1 = { zone = "eu-west-1b" } }
      automatic_failover = false
      instance_type      = "t4g.medium"
      data_volume        = { size_gib = 20 }
      wal_volume         = { size_gib = 10 }
      ca_certificate_pem = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"
    }
  }
}

run "api_on_kubernetes" {
  command = plan
  variables {
    network      = { zones = ["eu-west-1a", "eu-west-1b", "eu-west-1c"], nat = "one" }
    api_platform = "eks"
    eks = {
      kubernetes_version = "1.36"
      node               = { instance_types = ["m7g.large"], min = 2, max = 6, desired = 3, ami_type = "AL2023_ARM_64_STANDARD" }
      admin_role_arns    = ["arn:aws:iam::123456789012:role/admin"]
    }
    cache = {}
  }

  assert {
    condition     = output.chart_values.database.user == "api_service" && output.api_url == null
    error_message = "the chart is told of the database; the API has no name until its load balancer is known"
  }
}

run "api_on_kubernetes_with_its_load_balancer" {
  command = plan
  variables {
    network      = { zones = ["eu-west-1a", "eu-west-1b", "eu-west-1c"], nat = "one" }
    api_platform = "eks"
    eks = {
      kubernetes_version = "1.36"
      node               = { instance_types = ["m7g.large"], min = 2, max = 6, desired = 3, ami_type = "AL2023_ARM_64_STANDARD" }
      admin_role_arns    = ["arn:aws:iam::123456789012:role/admin"]
      load_balancer      = { dns_name = "k8s-api-0123456789.eu-west-1.elb.amazonaws.com", zone_id = "Z32O12XQLNTSW2" }
    }
  }

  assert {
    condition     = output.api_url == "https://api.example.com"
    error_message = "the records point at the Ingress"
  }
}
