# Of a host: what a mocked provider would make up and other resources would refuse. The tests of postgres, drill-host and monitoring-host read it too.

mock_data "aws_region" {
  defaults = { region = "eu-west-1" }
}

mock_data "aws_caller_identity" {
  defaults = { account_id = "123456789012" }
}

mock_data "aws_iam_policy_document" {
  defaults = { json = "{}" }
}

# As m7g.large.
mock_data "aws_ec2_instance_type" {
  defaults = { supported_architectures = ["arm64"], hypervisor = "nitro", bare_metal = false, ebs_performance_baseline_iops = 3600, ebs_performance_baseline_throughput = 78.75 }
}

mock_data "aws_ami" {
  defaults = { architecture = "arm64" }
}

mock_data "aws_ssm_parameter" {
  defaults = { insecure_value = "ami-0123456789abcdef0" }
}

mock_resource "aws_iam_role" {
  defaults = { arn = "arn:aws:iam::123456789012:role/example" }
}

mock_resource "aws_security_group" {
  defaults = { id = "sg-0123456789abcdef0" }
}
