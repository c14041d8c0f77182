# Run by infra-tests with each file of examples/, on providers that ask no account: tags, regions and
# policies are those of the real plan. Overridden is what only an account can answer.

# Known before the apply, so that the policies in which they stand are whole.
override_resource {
  target          = module.kms.aws_kms_key.this
  override_during = plan
  values          = { arn = "arn:aws:kms:eu-central-1:123456789012:key/11111111-1111-1111-1111-111111111111" }
}

# Known before the apply in one zone, so that it can be seen what is put where.
override_resource {
  target          = module.network.aws_subnet.public["eu-central-1a"]
  override_during = plan
  values          = { id = "subnet-public" }
}
override_resource {
  target          = module.network.aws_subnet.private["eu-central-1a"]
  override_during = plan
  values          = { id = "subnet-private" }
}
override_resource {
  target          = module.network.aws_subnet.data["eu-central-1a"]
  override_during = plan
  values          = { id = "subnet-data" }
}
override_resource {
  target          = module.network.aws_route_table.data
  override_during = plan
  values          = { id = "rtb-data" }
}

override_data {
  target = data.aws_caller_identity.this
  values = { account_id = "123456789012" }
}
override_data {
  target = module.kms.data.aws_caller_identity.current
  values = { account_id = "123456789012" }
}
override_data {
  target = module.network.data.aws_caller_identity.current
  values = { account_id = "123456789012" }
}
override_data {
  target = module.network.data.aws_availability_zones.current
  values = { names = ["eu-central-1a", "eu-central-1b", "eu-central-1c"] }
}
override_data {
  target = module.postgres.data.aws_caller_identity.this
  values = { account_id = "123456789012" }
}
override_data {
  target = module.api_ecs.data.aws_caller_identity.this
  values = { account_id = "123456789012" }
}
override_data {
  target = module.api_eks[0].data.aws_caller_identity.this
  values = { account_id = "123456789012" }
}
override_data {
  target = module.api_eks[0].data.aws_ec2_instance_type.node
  values = { supported_architectures = ["x86_64"], maximum_network_interfaces = 3, maximum_ipv4_addresses_per_interface = 6 }
}
override_data {
  target = module.api_eks[0].data.aws_eks_cluster_versions.this
  values = {
    cluster_versions = [{ cluster_version = "1.36", version_status = "STANDARD_SUPPORT", end_of_standard_support_date = "2098-08-02T00:00:00Z" }]
  }
}
override_data {
  target = module.observability.data.aws_caller_identity.this
  values = { account_id = "123456789012" }
}
# As m7g.xlarge; the smallest example has only what every volume has.
override_data {
  target = module.postgres.data.aws_ec2_instance_type.node
  values = { supported_architectures = ["arm64"], hypervisor = "nitro", bare_metal = false, ebs_performance_baseline_iops = 6000, ebs_performance_baseline_throughput = 156.25 }
}
override_data {
  target = module.postgres.data.aws_ssm_parameter.debian
  values = { insecure_value = "ami-0123456789abcdef0" }
}
override_data {
  target = module.monitoring_host.data.aws_caller_identity.this
  values = { account_id = "123456789012" }
}
override_data {
  target = module.monitoring_host.module.host.data.aws_caller_identity.this
  values = { account_id = "123456789012" }
}
override_data {
  target = module.monitoring_host[0].module.host.data.aws_ec2_instance_type.this
  values = { supported_architectures = ["arm64"] }
}
override_data {
  target = module.monitoring_host.module.host.data.aws_ssm_parameter.debian
  values = { insecure_value = "ami-0123456789abcdef0" }
}
override_data {
  target = module.drill_host.module.host.data.aws_caller_identity.this
  values = { account_id = "123456789012" }
}
override_data {
  target = module.drill_host[0].module.host.data.aws_ec2_instance_type.this
  values = { supported_architectures = ["arm64"] }
}
override_data {
  target = module.drill_host[0].data.aws_ec2_instance_type.this
  values = { hypervisor = "nitro", bare_metal = false, ebs_performance_baseline_iops = 3600, ebs_performance_baseline_throughput = 78.75 }
}
override_data {
  target = module.drill_host.module.host.data.aws_ssm_parameter.debian
  values = { insecure_value = "ami-0123456789abcdef0" }
}
# The values that infra-primary publishes.
override_data {
  target = data.aws_ssm_parameters_by_path.primary
  values = {
    names = [
      "/causeway-staging/primary/ca-certificate", "/causeway-production/primary/ca-certificate",
      "/causeway-staging/primary/shared-values", "/causeway-production/primary/shared-values",
    ]
    values = [
      "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
      "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
      "{\"dns\":{\"ttl_secs\":5,\"health_check\":{\"path\":\"/readyz\",\"interval_seconds\":10,\"failure_threshold\":3}},\"vpc_id\":\"vpc-0a1b2c3d4e5f60001\",\"cidr\":\"10.1.0.0/16\",\"route_table_ids\":{\"private-eu-west-1a\":\"rtb-0a1b2c3d4e5f60001\",\"data\":\"rtb-0a1b2c3d4e5f60002\"},\"data_cidrs\":[\"10.1.128.0/20\",\"10.1.144.0/20\",\"10.1.160.0/20\"],\"monitoring\":null,\"pooler\":false,\"nodes\":{\"eu-west-1a-1\":{\"region\":\"eu-west-1\",\"zone\":\"eu-west-1a\",\"address\":\"eu-west-1a-1.staging.causeway.internal\",\"private_ip\":\"10.1.128.11\",\"instance_id\":\"i-0a1b2c3d4e5f60001\",\"data_volume_id\":\"vol-0a1b2c3d4e5f60001\",\"wal_volume_id\":\"vol-0a1b2c3d4e5f60002\"}},\"cluster\":\"main\",\"lease\":{\"bucket\":\"causeway-lease\",\"arn\":\"arn:aws:s3:::causeway-lease\",\"region\":\"eu-north-1\"},\"backup\":{\"bucket\":\"causeway-primary\",\"arn\":\"arn:aws:s3:::causeway-primary\",\"kms_key_arn\":\"arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000\"},\"secrets\":{\"arns\":{\"api-owner\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/api-owner-AbCdEf\",\"api-service\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/api-service-AbCdEf\",\"monitoring\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/monitoring-AbCdEf\",\"command-signing-key\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/command-signing-key-AbCdEf\",\"replicator\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/replicator-AbCdEf\",\"rewinder\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/rewinder-AbCdEf\"},\"kms_key_arn\":\"arn:aws:kms:eu-central-1:123456789012:key/22222222-2222-2222-2222-222222222222\"},\"private_zone\":{\"id\":\"Z0123456789PRIVATE00\",\"name\":\"staging.causeway.internal\"},\"public_zone\":{\"id\":\"Z0123456789PUBLIC000\",\"name\":\"staging.example.com\"},\"names\":{\"writer\":\"db-writer.staging.causeway.internal\",\"reader\":\"db-reader.staging.causeway.internal\",\"api\":\"api.staging.example.com\",\"api_auto\":\"api-auto.staging.example.com\"},\"validated_names\":[\"api.staging.example.com\",\"api-auto.staging.example.com\"],\"api_target\":\"api-eu-west-1.staging.example.com\",\"regions\":{\"primary\":\"eu-west-1\",\"dr\":\"eu-central-1\",\"lease\":\"eu-north-1\"},\"cidrs\":{\"primary\":\"10.1.0.0/16\",\"dr\":\"10.2.0.0/16\"},\"database\":{\"name\":\"causeway\",\"public_certificates\":false,\"instance_type\":\"t4g.small\",\"data_volume\":{\"size_gib\":20,\"iops\":3000,\"throughput\":125},\"wal_volume\":{\"size_gib\":10,\"iops\":3000,\"throughput\":125}},\"image_version\":\":0.1.0\",\"boundary\":\"arn:aws:iam::123456789012:policy/boundary/causeway-staging-workload\",\"recovery_days\":0,\"retention\":{\"interval_hours\":24,\"retention_days\":7,\"object_lock\":{\"mode\":\"GOVERNANCE\",\"days\":3},\"noncurrent_days\":3,\"size_alarm_gib\":60,\"expirer\":null,\"replication\":false}}",
      "{\"dns\":{\"ttl_secs\":5,\"health_check\":{\"path\":\"/readyz\",\"interval_seconds\":10,\"failure_threshold\":3}},\"vpc_id\":\"vpc-0a1b2c3d4e5f60001\",\"cidr\":\"10.1.0.0/16\",\"route_table_ids\":{\"private-eu-west-1a\":\"rtb-0a1b2c3d4e5f60001\",\"data\":\"rtb-0a1b2c3d4e5f60002\"},\"data_cidrs\":[\"10.1.128.0/20\",\"10.1.144.0/20\",\"10.1.160.0/20\"],\"monitoring\":{\"cidr\":\"10.1.128.0/20\",\"address\":\"10.1.128.30\"},\"pooler\":false,\"nodes\":{\"eu-west-1a-1\":{\"region\":\"eu-west-1\",\"zone\":\"eu-west-1a\",\"address\":\"eu-west-1a-1.causeway.internal\",\"private_ip\":\"10.1.128.11\",\"instance_id\":\"i-0a1b2c3d4e5f60001\",\"data_volume_id\":\"vol-0a1b2c3d4e5f60001\",\"wal_volume_id\":\"vol-0a1b2c3d4e5f60002\"}},\"cluster\":\"main\",\"lease\":{\"bucket\":\"causeway-lease\",\"arn\":\"arn:aws:s3:::causeway-lease\",\"region\":\"eu-north-1\"},\"backup\":{\"bucket\":\"causeway-primary\",\"arn\":\"arn:aws:s3:::causeway-primary\",\"kms_key_arn\":\"arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000\"},\"secrets\":{\"arns\":{\"api-owner\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/api-owner-AbCdEf\",\"api-service\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/api-service-AbCdEf\",\"monitoring\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/monitoring-AbCdEf\",\"command-signing-key\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/command-signing-key-AbCdEf\",\"replicator\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/replicator-AbCdEf\",\"rewinder\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/rewinder-AbCdEf\"},\"kms_key_arn\":\"arn:aws:kms:eu-central-1:123456789012:key/22222222-2222-2222-2222-222222222222\"},\"private_zone\":{\"id\":\"Z0123456789PRIVATE00\",\"name\":\"causeway.internal\"},\"public_zone\":{\"id\":\"Z0123456789PUBLIC000\",\"name\":\"example.com\"},\"names\":{\"writer\":\"db-writer.causeway.internal\",\"reader\":\"db-reader.causeway.internal\",\"api\":\"api.example.com\",\"api_auto\":\"api-auto.example.com\"},\"validated_names\":[\"api.example.com\",\"api-auto.example.com\"],\"api_target\":\"api-eu-west-1.example.com\",\"regions\":{\"primary\":\"eu-west-1\",\"dr\":\"eu-central-1\",\"lease\":\"eu-north-1\"},\"cidrs\":{\"primary\":\"10.1.0.0/16\",\"dr\":\"10.2.0.0/16\"},\"database\":{\"name\":\"causeway\",\"public_certificates\":false,\"instance_type\":\"m7g.xlarge\",\"data_volume\":{\"size_gib\":500,\"iops\":3000,\"throughput\":125},\"wal_volume\":{\"size_gib\":50,\"iops\":3000,\"throughput\":125}},\"image_version\":\":0.1.0\",\"boundary\":\"arn:aws:iam::123456789012:policy/boundary/causeway-production-workload\",\"recovery_days\":30,\"retention\":{\"interval_hours\":24,\"retention_days\":35,\"object_lock\":{\"mode\":\"GOVERNANCE\",\"days\":14},\"noncurrent_days\":14,\"size_alarm_gib\":6500,\"expirer\":{\"principal_arns\":[\"arn:aws:iam::123456789012:user/backup-operator\"],\"mfa\":true},\"replication\":false}}",
    ]
  }
}

run "planned" {
  command = plan

  assert {
    condition     = toset(keys(output.nodes)) == toset(keys(var.database.nodes))
    error_message = "each node is handed over"
  }

  assert {
    condition     = toset(keys(output.parameters)) == toset(["backup-agent", "failover-ctl", "inventory"])
    error_message = "the parameters of Ansible and failover-ctl are stored"
  }

  assert {
    condition     = (output.restore_drill == null) == (var.restore_drill == null)
    error_message = "restore_drill creates the drill host"
  }

  assert {
    condition     = var.api_platform == "eks" ? output.api_url == null : startswith(output.api_url, "https://api-eu-central-1.")
    error_message = "the API has the name of its region, on EKS once its load balancer is known"
  }
}
