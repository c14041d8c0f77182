# What other resources' own checks look at: a made-up string is no ARN and no JSON.

mock_data "aws_caller_identity" {
  defaults = { account_id = "123456789012" }
}
mock_data "aws_availability_zones" {
  defaults = { names = ["eu-west-1a", "eu-west-1b", "eu-west-1c"] }
}
mock_data "aws_partition" {
  defaults = { partition = "aws" }
}
mock_data "aws_region" {
  defaults = { region = "eu-west-1" }
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
    names = ["/causeway-test/dr/shared-values"]
    values = [
      "{\"data_cidrs\":[\"10.2.128.0/20\"],\"nodes\":{},\"backup\":{\"bucket\":\"causeway-dr\",\"arn\":\"arn:aws:s3:::causeway-dr\",\"kms_key_arn\":\"arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000\"},\"replication\":[],\"api_target\":null}",
    ]
  }
}
mock_resource "aws_acm_certificate" {
  defaults = {
    arn = "arn:aws:acm:eu-west-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"
    domain_validation_options = [
      { domain_name = "api.example.com", resource_record_name = "_1.api.example.com", resource_record_type = "CNAME", resource_record_value = "_1.acm-validations.aws" },
      { domain_name = "api-auto.example.com", resource_record_name = "_2.api-auto.example.com", resource_record_type = "CNAME", resource_record_value = "_2.acm-validations.aws" },
      { domain_name = "api-eu-west-1.example.com", resource_record_name = "_3.api-eu-west-1.example.com", resource_record_type = "CNAME", resource_record_value = "_3.acm-validations.aws" },
    ]
  }
}
mock_resource "aws_cloudwatch_log_group" {
  defaults = { arn = "arn:aws:logs:eu-west-1:123456789012:log-group:example" }
}
mock_data "aws_eks_cluster_versions" {
  defaults = {
    cluster_versions = [{ cluster_version = "1.36", version_status = "STANDARD_SUPPORT", end_of_standard_support_date = "2098-08-02T00:00:00Z", end_of_extended_support_date = "2099-08-02T00:00:00Z" }]
  }
}
mock_resource "aws_eks_cluster" {
  defaults = {
    identity   = [{ oidc = [{ issuer = "https://oidc.eks.eu-west-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF" }] }]
    vpc_config = { cluster_security_group_id = "sg-0123456789abcdef1", vpc_id = "vpc-0a1b2c3d4e5f60001" }
  }
}
mock_resource "aws_iam_openid_connect_provider" {
  defaults = { arn = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF" }
}
mock_resource "aws_iam_role" {
  defaults = { arn = "arn:aws:iam::123456789012:role/example" }
}
mock_resource "aws_kms_key" {
  defaults = { arn = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000" }
}
mock_resource "aws_secretsmanager_secret" {
  defaults = { arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/example-AbCdEf" }
}
mock_resource "aws_sns_topic" {
  defaults = { arn = "arn:aws:sns:eu-west-1:123456789012:causeway-test-alarms" }
}
