# The outputs for Helm, known in the plan: infra-tests renders charts/api with them as they are.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}
mock_provider "aws" {
  alias           = "dr"
  source          = "./tests/mocks"
  override_during = plan

  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/22222222-2222-2222-2222-222222222222" }
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

# Mocked secrets have one ARN.
override_resource {
  target          = module.secrets.aws_secretsmanager_secret.this["api-owner"]
  override_during = plan
  values          = { arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/api-owner-AbCdEf" }
}

variables {
  environment = "test"
  owner       = "platform-team"
  cidrs       = { primary = "10.1.0.0/16", dr = "10.2.0.0/16" }
  network     = { zones = ["eu-west-1a", "eu-west-1b", "eu-west-1c"], nat = "one" }
  database = {
    nodes         = { eu-west-1a-1 = { zone = "eu-west-1a" }, eu-west-1b-1 = { zone = "eu-west-1b" } }
    instance_type = "t4g.medium"
    data_volume   = { size_gib = 20 }
    wal_volume    = { size_gib = 10 }

    ca_certificate_pem = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
  }
  dns                  = { public_zone = "example.com" }
  permissions_boundary = "arn:aws:iam::123456789012:policy/boundary/causeway-test-workload"
  alarms               = { emails = ["platform-team@example.com"] }
  api_platform         = "eks"
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
      auth_secret_arn   = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/cache-8f2c1a-AbCdEf"
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
    condition     = output.chart_values.redis.host == "" && contains(output.chart_values.ingress.hosts[*].host, "api-eu-west-1.example.com")
    error_message = "the load balancer must answer to the region's own name, which the health check requests"
  }
}
