# What can be chosen. The API on ECS is in tests/examples.

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
  cidrs       = { primary = "10.1.0.0/16", dr = "10.2.0.0/16" }
  network     = { zones = ["eu-central-1a", "eu-central-1b", "eu-central-1c"] }
  database = {
    nodes              = { eu-central-1a-1 = { zone = "eu-central-1a" } }
    instance_type      = "t4g.medium"
    data_volume        = { size_gib = 20 }
    wal_volume         = { size_gib = 10 }
    ca_certificate_pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
  }
  alarms       = { emails = ["platform-team@example.com"] }
  api_platform = "none"
}

run "no_api" {
  command = plan

  assert {
    condition     = output.api_url == null && output.certificate_arn == null
    error_message = "without an API there is neither a name nor a certificate"
  }
}

run "api_on_kubernetes" {
  command = plan
  variables {
    api_platform = "eks"
    eks = {
      kubernetes_version = "1.33"
      node               = { instance_types = ["m7g.large"], min = 1, max = 6, desired = 1, ami_type = "AL2023_ARM_64_STANDARD" }
      admin_role_arns    = ["arn:aws:iam::123456789012:role/admin"]
      load_balancer      = { dns_name = "k8s-api-0123456789.eu-central-1.elb.amazonaws.com", zone_id = "Z215JYRZR1TBD5" }
    }
  }

  assert {
    condition     = output.api_url == "https://api-eu-central-1.example.com" && output.chart_values.database.user == "api_service"
    error_message = "the records point at the Ingress, and the chart values contain the database"
  }

  assert {
    condition     = output.chart_values.readiness.path == "/livez" && !output.chart_values.migration.enabled
    error_message = "pods of a standby region must become ready, and not migrate"
  }
}

run "api_on_kubernetes_in_an_active_region" {
  command = plan
  variables {
    active       = true
    api_platform = "eks"
    eks = {
      kubernetes_version = "1.33"
      node               = { instance_types = ["m7g.large"], min = 1, max = 6, desired = 1, ami_type = "AL2023_ARM_64_STANDARD" }
      admin_role_arns    = ["arn:aws:iam::123456789012:role/admin"]
      load_balancer      = { dns_name = "k8s-api-0123456789.eu-central-1.elb.amazonaws.com", zone_id = "Z215JYRZR1TBD5" }
    }
  }

  assert {
    condition     = output.chart_values.readiness.path == "/readyz" && output.chart_values.migration.enabled
    error_message = "pods of an active region must be ready only with a primary"
  }
}

run "active_region" {
  command = plan
  variables {
    active       = true
    api_platform = "ecs"
    api = {
      image        = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/causeway/api:0.1.0"
      tasks        = { min = 1, max = 2, desired = 1 }
      active_tasks = { min = 3, max = 9, desired = 3 }
    }
  }

  assert {
    condition     = output.api_tasks == { min = 3, max = 9, desired = 3 }
    error_message = "an active region has its own number of tasks"
  }
}
