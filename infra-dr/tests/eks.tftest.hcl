# The outputs for Helm, known in the plan: infra-tests renders charts/api with them as they are.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}
mock_provider "aws" {
  alias           = "primary"
  source          = "./tests/mocks"
  override_during = plan

  mock_data "aws_region" {
    defaults = { region = "eu-west-1" }
  }
}
mock_provider "aws" {
  alias           = "lease"
  source          = "./tests/mocks"
  override_during = plan

  mock_data "aws_region" {
    defaults = { region = "eu-north-1" }
  }
}

variables {
  environment = "test"
  owner       = "platform-team"
  network     = { zones = ["eu-central-1a", "eu-central-1b", "eu-central-1c"], nat = "one" }
  database = {
    nodes = { eu-central-1a-1 = { zone = "eu-central-1a" } }
  }
  alarms       = { emails = ["platform-team@example.com"] }
  api_platform = "eks"
  eks = {
    kubernetes_version = "1.36"
    node               = { instance_types = ["m7g.large"], min = 2, max = 6, desired = 3, ami_type = "AL2023_ARM_64_STANDARD" }
    admin_role_arns    = ["arn:aws:iam::123456789012:role/admin"]
    settings           = { COMPANY_NAME = "Example" }
  }
}

run "with_a_cache" {
  command = plan
  variables {
    cache = {}
  }
  override_module {
    target = module.cache
    outputs = {
      host              = "master.causeway-test-cache.abc123.cache.amazonaws.com"
      port              = 6379
      auth_secret_arn   = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway-test/cache-8f2c1a-AbCdEf"
      security_group_id = "sg-0123456789abcdef2"
    }
  }

  assert {
    condition     = output.chart_values.redis.host != "" && output.chart_values.extraEnv.COMPANY_NAME == "Example"
    error_message = "the chart must have the cache and the settings"
  }
}

run "without_a_cache" {
  command = plan

  assert {
    condition     = output.chart_values.redis.host == "" && contains(output.chart_values.ingress.hosts[*].host, "api-eu-central-1.example.com")
    error_message = "the load balancer must answer to the region's own name, which the health check requests"
  }
}

run "active" {
  command = plan
  variables {
    active = true
  }

  assert {
    condition     = output.chart_values.readinessProbe.httpGet.path == "/readyz" && output.chart_values.migration.enabled
    error_message = "pods of an active region must be ready only with a primary"
  }
}
