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
  network     = { zones = ["eu-central-1a", "eu-central-1b", "eu-central-1c"] }
  database = {
    nodes = { eu-central-1a-1 = { zone = "eu-central-1a" } }
  }
  alarms       = { emails = ["platform-team@example.com"] }
  api_platform = "none"
}

run "no_api" {
  command = plan

  assert {
    condition     = length(module.replication_to_primary) == 0 && length(module.replication_from_primary) == 0
    error_message = "each backup must be copied once, by backup-agent"
  }

  assert {
    condition     = module.network.cidr == "10.2.0.0/16" && local.database.name == "causeway" && local.instance_type == "t4g.medium" && local.data_volume.size_gib == 20
    error_message = "the network, the database's name and its sizes must be those of infra-primary"
  }

  assert {
    condition     = output.api_url == null && output.certificate_arn == null
    error_message = "without an API there is neither a name nor a certificate"
  }
}

run "api_on_kubernetes" {
  command = plan
  variables {
    network      = { zones = ["eu-central-1a", "eu-central-1b", "eu-central-1c"], nat = "one" }
    api_platform = "eks"
    eks = {
      kubernetes_version = "1.36"
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
    condition     = output.chart_values.readinessProbe.httpGet.path == "/livez" && !output.chart_values.migration.enabled
    error_message = "pods of a standby region must become ready, and not migrate"
  }
}

run "api_on_kubernetes_in_an_active_region" {
  command = plan
  variables {
    active       = true
    network      = { zones = ["eu-central-1a", "eu-central-1b", "eu-central-1c"], nat = "one" }
    api_platform = "eks"
    eks = {
      kubernetes_version = "1.36"
      node               = { instance_types = ["m7g.large"], min = 1, max = 6, desired = 1, ami_type = "AL2023_ARM_64_STANDARD" }
      admin_role_arns    = ["arn:aws:iam::123456789012:role/admin"]
      load_balancer      = { dns_name = "k8s-api-0123456789.eu-central-1.elb.amazonaws.com", zone_id = "Z215JYRZR1TBD5" }
    }
  }

  assert {
    condition     = output.chart_values.readinessProbe.httpGet.path == "/readyz" && output.chart_values.migration.enabled
    error_message = "pods of an active region must be ready only with a primary"
  }
}

run "active_region" {
  command = plan
  variables {
    active       = true
    api_platform = "ecs"
    api = {
      tasks        = { min = 1, max = 2, desired = 1 }
      active_tasks = { min = 3, max = 9, desired = 3 }
    }
  }

  assert {
    condition     = local.image == "123456789012.dkr.ecr.eu-central-1.amazonaws.com/causeway/api:0.1.0"
    error_message = "the image must be infra-primary's version, from the registry of this region"
  }

  assert {
    condition     = output.api_tasks == { min = 3, max = 9, desired = 3 }
    error_message = "an active region has its own number of tasks"
  }
}

run "replication_by_s3" {
  command = plan
  override_data {
    target = data.aws_ssm_parameters_by_path.primary
    values = {
      names = ["/causeway-test/primary/ca-certificate", "/causeway-test/primary/shared-values"]
      values = [
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "{\"vpc_id\":\"vpc-0a1b2c3d4e5f60001\",\"cidr\":\"10.1.0.0/16\",\"route_table_ids\":{\"private-eu-west-1a\":\"rtb-0a1b2c3d4e5f60001\",\"data\":\"rtb-0a1b2c3d4e5f60002\"},\"data_cidrs\":[\"10.1.128.0/20\",\"10.1.144.0/20\",\"10.1.160.0/20\"],\"monitoring\":null,\"pooler\":false,\"nodes\":{\"eu-west-1a-1\":{\"region\":\"eu-west-1\",\"zone\":\"eu-west-1a\",\"address\":\"eu-west-1a-1.causeway.internal\",\"private_ip\":\"10.1.128.11\",\"instance_id\":\"i-0a1b2c3d4e5f60001\",\"data_volume_id\":\"vol-0a1b2c3d4e5f60001\",\"wal_volume_id\":\"vol-0a1b2c3d4e5f60002\"}},\"cluster\":\"main\",\"lease\":{\"bucket\":\"causeway-lease\",\"arn\":\"arn:aws:s3:::causeway-lease\",\"region\":\"eu-north-1\"},\"backup\":{\"bucket\":\"causeway-primary\",\"arn\":\"arn:aws:s3:::causeway-primary\",\"kms_key_arn\":\"arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000\"},\"secrets\":{\"arns\":{\"api-owner\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/api-owner-AbCdEf\",\"api-service\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/api-service-AbCdEf\",\"monitoring\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/monitoring-AbCdEf\",\"command-signing-key\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/command-signing-key-AbCdEf\",\"replicator\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/replicator-AbCdEf\",\"rewinder\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/rewinder-AbCdEf\"},\"kms_key_arn\":\"arn:aws:kms:eu-central-1:123456789012:key/22222222-2222-2222-2222-222222222222\"},\"private_zone\":{\"id\":\"Z0123456789PRIVATE00\",\"name\":\"causeway.internal\"},\"public_zone\":{\"id\":\"Z0123456789PUBLIC000\",\"name\":\"example.com\"},\"names\":{\"writer\":\"db-writer.causeway.internal\",\"reader\":\"db-reader.causeway.internal\",\"api\":\"api.example.com\",\"api_auto\":\"api-auto.example.com\"},\"validated_names\":[\"api.example.com\",\"api-auto.example.com\"],\"api_target\":\"api-eu-west-1.example.com\",\"regions\":{\"primary\":\"eu-west-1\",\"dr\":\"eu-central-1\",\"lease\":\"eu-north-1\"},\"cidrs\":{\"primary\":\"10.1.0.0/16\",\"dr\":\"10.2.0.0/16\"},\"database\":{\"name\":\"causeway\",\"public_certificates\":false,\"instance_type\":\"t4g.medium\",\"data_volume\":{\"size_gib\":20,\"iops\":3000,\"throughput\":125},\"wal_volume\":{\"size_gib\":10,\"iops\":3000,\"throughput\":125}},\"retention\":{\"interval_hours\":24,\"retention_days\":7,\"object_lock\":{\"mode\":\"GOVERNANCE\",\"days\":3},\"noncurrent_days\":3,\"size_alarm_gib\":60,\"expirer\":{\"principal_arns\":[\"arn:aws:iam::123456789012:user/operator\"],\"mfa\":true},\"replication\":true},\"image_version\":\":0.1.0\",\"boundary\":\"arn:aws:iam::123456789012:policy/boundary/causeway-workload\",\"recovery_days\":0,\"dns\":{\"ttl_secs\":5,\"health_check\":{\"path\":\"/readyz\",\"interval_seconds\":10,\"failure_threshold\":3}}}",
      ]
    }
  }

  assert {
    condition     = length(module.replication_to_primary) == 1 && length(module.replication_from_primary) == 1
    error_message = "infra-primary's backup.replication must create both directions"
  }

  assert {
    condition     = output.backup_expirer_role_arn != null
    error_message = "the bucket must have the role for infra-primary's operators"
  }
}
