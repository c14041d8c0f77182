mock_provider "aws" {}

variables {
  path   = "/causeway-test"
  values = { inventory = { description = "Ansible's inventory", value = "all: {}" } }
}

run "one_for_each_value" {
  command = plan

  assert {
    condition     = aws_ssm_parameter.this["inventory"].name == "/causeway-test/inventory" && aws_ssm_parameter.this["inventory"].insecure_value == "all: {}"
    error_message = "the value lies below the path"
  }

  assert {
    condition     = aws_ssm_parameter.this["inventory"].description == "Ansible's inventory"
    error_message = "the description is missing"
  }
}

run "path_that_ends_with_a_slash" {
  command = plan
  variables {
    path = "/causeway-test/"
  }
  expect_failures = [var.path]
}

run "name_with_a_slash" {
  command = plan
  variables {
    values = { "a/b" = { description = "x", value = "x" } }
  }
  expect_failures = [var.values]
}
