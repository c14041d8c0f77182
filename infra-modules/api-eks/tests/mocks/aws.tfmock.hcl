# What a mocked provider would make up and other resources would refuse.

mock_data "aws_region" {
  defaults = { region = "eu-west-1" }
}

mock_data "aws_caller_identity" {
  defaults = { account_id = "123456789012" }
}

mock_data "aws_iam_policy_document" {
  defaults = { json = "{}" }
}

mock_resource "aws_iam_role" {
  defaults = { arn = "arn:aws:iam::123456789012:role/example" }
}

mock_resource "aws_eks_cluster" {
  defaults = {
    name       = "causeway-test"
    vpc_config = { cluster_security_group_id = "sg-0123456789abcdef1", vpc_id = "vpc-0a1b2c3d4e5f60001" }
    identity   = [{ oidc = [{ issuer = "https://oidc.eks.eu-west-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF" }] }]
  }
}

# 1.34 is past its standard support.
mock_data "aws_eks_cluster_versions" {
  defaults = {
    cluster_versions = [
      { cluster_version = "1.34", version_status = "EXTENDED_SUPPORT", end_of_standard_support_date = "2026-12-02T00:00:00Z", end_of_extended_support_date = "2098-12-02T00:00:00Z" },
      { cluster_version = "1.35", version_status = "STANDARD_SUPPORT", end_of_standard_support_date = "2020-01-01T00:00:00Z", end_of_extended_support_date = "2098-03-27T00:00:00Z" },
      { cluster_version = "1.36", version_status = "STANDARD_SUPPORT", end_of_standard_support_date = "2098-08-02T00:00:00Z", end_of_extended_support_date = "2099-08-02T00:00:00Z" },
    ]
  }
}

mock_data "aws_ec2_instance_type" {
  defaults = { supported_architectures = ["x86_64"], maximum_network_interfaces = 3, maximum_ipv4_addresses_per_interface = 10 }
}
