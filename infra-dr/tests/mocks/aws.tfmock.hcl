# What other resources' own checks look at: a made-up string is no ARN and no JSON.

mock_data "aws_caller_identity" {
  defaults = { account_id = "123456789012" }
}
mock_data "aws_availability_zones" {
  defaults = { names = ["eu-central-1a", "eu-central-1b", "eu-central-1c"] }
}
mock_data "aws_partition" {
  defaults = { partition = "aws" }
}
mock_data "aws_region" {
  defaults = { region = "eu-central-1" }
}
mock_data "aws_iam_policy_document" {
  defaults = { json = "{}" }
}
mock_data "aws_ec2_instance_type" {
  defaults = { supported_architectures = ["arm64"], hypervisor = "nitro", bare_metal = false, ebs_performance_baseline_iops = 6000, ebs_performance_baseline_throughput = 156.25, maximum_network_interfaces = 3, maximum_ipv4_addresses_per_interface = 10 }
}
mock_data "aws_ssm_parameter" {
  defaults = { insecure_value = "ami-0123456789abcdef0" }
}
mock_data "aws_ssm_parameters_by_path" {
  defaults = {
    names = ["/causeway-test/primary/ca-certificate", "/causeway-test/primary/shared-values"]
    values = [
      "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
      "{\"dns\":{\"ttl_secs\":5,\"health_check\":{\"path\":\"/readyz\",\"interval_seconds\":10,\"failure_threshold\":3}},\"vpc_id\":\"vpc-0a1b2c3d4e5f60001\",\"cidr\":\"10.1.0.0/16\",\"route_table_ids\":{\"private-eu-west-1a\":\"rtb-0a1b2c3d4e5f60001\",\"data\":\"rtb-0a1b2c3d4e5f60002\"},\"data_cidrs\":[\"10.1.128.0/20\",\"10.1.144.0/20\",\"10.1.160.0/20\"],\"monitoring\":null,\"pooler\":false,\"nodes\":{\"eu-west-1a-1\":{\"region\":\"eu-west-1\",\"zone\":\"eu-west-1a\",\"address\":\"eu-west-1a-1.causeway.internal\",\"private_ip\":\"10.1.128.11\",\"instance_id\":\"i-0a1b2c3d4e5f60001\",\"data_volume_id\":\"vol-0a1b2c3d4e5f60001\",\"wal_volume_id\":\"vol-0a1b2c3d4e5f60002\"}},\"cluster\":\"main\",\"lease\":{\"bucket\":\"causeway-lease\",\"arn\":\"arn:aws:s3:::causeway-lease\",\"region\":\"eu-north-1\"},\"backup\":{\"bucket\":\"causeway-primary\",\"arn\":\"arn:aws:s3:::causeway-primary\",\"kms_key_arn\":\"arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000\"},\"secrets\":{\"arns\":{\"api-owner\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/api-owner-AbCdEf\",\"api-service\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/api-service-AbCdEf\",\"monitoring\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/monitoring-AbCdEf\",\"command-signing-key\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/command-signing-key-AbCdEf\",\"replicator\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/replicator-AbCdEf\",\"rewinder\":\"arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway/rewinder-AbCdEf\"},\"kms_key_arn\":\"arn:aws:kms:eu-central-1:123456789012:key/22222222-2222-2222-2222-222222222222\"},\"private_zone\":{\"id\":\"Z0123456789PRIVATE00\",\"name\":\"causeway.internal\"},\"public_zone\":{\"id\":\"Z0123456789PUBLIC000\",\"name\":\"example.com\"},\"names\":{\"writer\":\"db-writer.causeway.internal\",\"reader\":\"db-reader.causeway.internal\",\"api\":\"api.example.com\",\"api_auto\":\"api-auto.example.com\"},\"validated_names\":[\"api.example.com\",\"api-auto.example.com\"],\"api_target\":\"api-eu-west-1.example.com\",\"regions\":{\"primary\":\"eu-west-1\",\"dr\":\"eu-central-1\",\"lease\":\"eu-north-1\"},\"cidrs\":{\"primary\":\"10.1.0.0/16\",\"dr\":\"10.2.0.0/16\"},\"database\":{\"name\":\"causeway\",\"public_certificates\":false,\"instance_type\":\"t4g.medium\",\"data_volume\":{\"size_gib\":20,\"iops\":3000,\"throughput\":125},\"wal_volume\":{\"size_gib\":10,\"iops\":3000,\"throughput\":125}},\"image_version\":\":0.1.0\",\"boundary\":\"arn:aws:iam::123456789012:policy/boundary/causeway-test-workload\",\"recovery_days\":0,\"retention\":{\"interval_hours\":24,\"retention_days\":7,\"object_lock\":{\"mode\":\"GOVERNANCE\",\"days\":3},\"noncurrent_days\":3,\"size_alarm_gib\":60,\"expirer\":null,\"replication\":false}}",
    ]
  }
}
mock_resource "aws_acm_certificate" {
  defaults = {
    arn = "arn:aws:acm:eu-central-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"
    domain_validation_options = [
      { domain_name = "api.example.com", resource_record_name = "_1.api.example.com", resource_record_type = "CNAME", resource_record_value = "_1.acm-validations.aws" },
      { domain_name = "api-auto.example.com", resource_record_name = "_2.api-auto.example.com", resource_record_type = "CNAME", resource_record_value = "_2.acm-validations.aws" },
      { domain_name = "api-eu-central-1.example.com", resource_record_name = "_3.api-eu-central-1.example.com", resource_record_type = "CNAME", resource_record_value = "_3.acm-validations.aws" },
    ]
  }
}
mock_resource "aws_cloudwatch_log_group" {
  defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:example" }
}
mock_data "aws_eks_cluster_versions" {
  defaults = {
    cluster_versions = [{ cluster_version = "1.36", version_status = "STANDARD_SUPPORT", end_of_standard_support_date = "2098-08-02T00:00:00Z", end_of_extended_support_date = "2099-08-02T00:00:00Z" }]
  }
}
mock_resource "aws_eks_cluster" {
  defaults = {
    identity   = [{ oidc = [{ issuer = "https://oidc.eks.eu-central-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF" }] }]
    vpc_config = { cluster_security_group_id = "sg-0123456789abcdef1", vpc_id = "vpc-0a1b2c3d4e5f60001" }
  }
}
mock_resource "aws_iam_openid_connect_provider" {
  defaults = { arn = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF" }
}
mock_resource "aws_iam_role" {
  defaults = { arn = "arn:aws:iam::123456789012:role/example" }
}
mock_resource "aws_kms_key" {
  defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000" }
}
mock_resource "aws_secretsmanager_secret" {
  defaults = { arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway-test/example-AbCdEf" }
}
mock_resource "aws_sns_topic" {
  defaults = { arn = "arn:aws:sns:eu-central-1:123456789012:causeway-test-alarms" }
}
