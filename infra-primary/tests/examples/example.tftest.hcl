# Run by infra-tests with each file of examples/, on providers that ask no account: tags, regions and
# policies are those of the real plan. Overridden is what only an account can answer.

# Known before the apply, so that the policies in which they stand are whole.
override_resource {
  target          = module.kms.aws_kms_key.this
  override_during = plan
  values          = { arn = "arn:aws:kms:eu-west-1:123456789012:key/11111111-1111-1111-1111-111111111111" }
}

# Known before the apply in one zone, so that it can be seen what is put where.
override_resource {
  target          = module.network.aws_subnet.public["eu-west-1a"]
  override_during = plan
  values          = { id = "subnet-public" }
}
override_resource {
  target          = module.network.aws_subnet.private["eu-west-1a"]
  override_during = plan
  values          = { id = "subnet-private" }
}
override_resource {
  target          = module.network.aws_subnet.data["eu-west-1a"]
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
  target = module.kms_replica.data.aws_caller_identity.current
  values = { account_id = "123456789012" }
}
override_data {
  target = module.network.data.aws_caller_identity.current
  values = { account_id = "123456789012" }
}
override_data {
  target = module.network.data.aws_availability_zones.current
  values = { names = ["eu-west-1a", "eu-west-1b", "eu-west-1c"] }
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
  target = module.dns.data.aws_route53_zone.public
  values = { zone_id = "Z0123456789PUBLIC000" }
}
# The values that infra-dr publishes.
override_data {
  target = data.aws_ssm_parameters_by_path.dr
  values = {
    names = ["/causeway-staging/dr/shared-values", "/causeway-production/dr/shared-values"]
    values = [
      "{\"data_cidrs\":[\"10.2.128.0/20\",\"10.2.144.0/20\",\"10.2.160.0/20\"],\"monitoring\":null,\"nodes\":{\"eu-central-1a-1\":{\"region\":\"eu-central-1\",\"zone\":\"eu-central-1a\",\"address\":\"eu-central-1a-1.causeway.internal\",\"private_ip\":\"10.2.128.11\",\"instance_id\":\"i-0a1b2c3d4e5f60003\",\"data_volume_id\":\"vol-0a1b2c3d4e5f60005\",\"wal_volume_id\":\"vol-0a1b2c3d4e5f60006\"}},\"backup\":{\"bucket\":\"causeway-dr\",\"arn\":\"arn:aws:s3:::causeway-dr\",\"kms_key_arn\":\"arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000\"},\"replication\":[{\"bucket\":\"causeway\",\"destination\":\"causeway-dr\",\"rule\":\"backups\"}],\"api_target\":\"api-eu-central-1.example.com\"}",
      "{\"data_cidrs\":[\"10.2.128.0/20\",\"10.2.144.0/20\",\"10.2.160.0/20\"],\"monitoring\":{\"cidr\":\"10.2.128.0/20\",\"address\":\"10.2.128.30\"},\"reader_role_arns\":[\"arn:aws:iam::123456789012:role/causeway-production-restore-drill-eu-central-1\"],\"nodes\":{\"eu-central-1a-1\":{\"region\":\"eu-central-1\",\"zone\":\"eu-central-1a\",\"address\":\"eu-central-1a-1.causeway.internal\",\"private_ip\":\"10.2.128.11\",\"instance_id\":\"i-0a1b2c3d4e5f60003\",\"data_volume_id\":\"vol-0a1b2c3d4e5f60005\",\"wal_volume_id\":\"vol-0a1b2c3d4e5f60006\"}},\"backup\":{\"bucket\":\"causeway-dr\",\"arn\":\"arn:aws:s3:::causeway-dr\",\"kms_key_arn\":\"arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000\"},\"replication\":[{\"bucket\":\"causeway\",\"destination\":\"causeway-dr\",\"rule\":\"backups\"}],\"api_target\":\"api-eu-central-1.example.com\"}",
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
    condition     = output.api_url == (var.api_platform == "eks" ? null : "https://api.${var.dns.public_zone}")
    error_message = "the API has its name, on EKS once its load balancer is known"
  }
}
