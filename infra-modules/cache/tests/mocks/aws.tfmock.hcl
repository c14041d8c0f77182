# What a mocked provider would make up and other resources would refuse.

mock_data "aws_region" {
  defaults = { region = "eu-west-1" }
}

mock_resource "aws_secretsmanager_secret" {
  defaults = { id = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/cache-AbCdEf" }
}

mock_resource "aws_secretsmanager_secret_version" {
  defaults = { secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/cache-AbCdEf" }
}
