mock_provider "aws" {
  override_during = plan

  mock_data "aws_region" {
    defaults = { region = "eu-west-1" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000" }
  }
}

variables {
  name        = "causeway-test"
  description = "everything of this region"
  services    = ["logs", "cloudwatch", "events", "budgets"]
}

run "key" {
  command = plan

  assert {
    condition     = aws_kms_key.this.enable_key_rotation && aws_kms_key.this.deletion_window_in_days == 30
    error_message = "The key must rotate, and be restorable for a month."
  }
  assert {
    condition     = aws_kms_key.this.description == "causeway-test: everything of this region" && aws_kms_alias.this.name == "alias/causeway-test"
    error_message = "The key must say what it is for."
  }
  assert {
    condition     = output.arn == aws_kms_key.this.arn
    error_message = "The output must be the key's ARN."
  }
}

run "policy" {
  command = plan

  assert {
    condition = alltrue([
      for statement in jsondecode(aws_kms_key.this.policy).Statement :
      statement.Principal != "*" && alltrue([for action in flatten([statement.Action]) : !strcontains(action, "*")])
    ])
    error_message = "The key policy may hold no wildcard but the key itself."
  }
  assert {
    condition     = alltrue([for statement in jsondecode(aws_kms_key.this.policy).Statement : endswith(statement.Principal.AWS, ":root") if can(statement.Principal.AWS)])
    error_message = "KMS refuses a key whose policy names a role that is not there yet."
  }
  assert {
    condition = alltrue([
      for statement in jsondecode(aws_kms_key.this.policy).Statement : can(statement.Condition) if can(statement.Principal.Service) && statement.Sid != "PublishEvents"
    ])
    error_message = "A service may use the key for this account only."
  }
  assert {
    condition = anytrue([
      for statement in jsondecode(aws_kms_key.this.policy).Statement :
      try(statement.Condition.StringLike["kms:EncryptionContext:aws:logs:arn"] == "arn:aws:logs:eu-west-1:123456789012:log-group:*", false)
    ])
    error_message = "CloudWatch Logs may use the key for log groups of this account and region."
  }
  assert {
    condition     = contains(flatten([for statement in jsondecode(aws_kms_key.this.policy).Statement : statement.Action]), "kms:PutKeyPolicy")
    error_message = "The account must stay able to change the policy, or the key is out of reach for ever."
  }
}

run "services_are_let_in_by_name" {
  command = plan

  variables {
    services = []
  }

  assert {
    condition     = length([for statement in jsondecode(aws_kms_key.this.policy).Statement : statement if !endswith(try(statement.Principal.AWS, ""), ":root")]) == 0
    error_message = "Without services, only the account may use the key."
  }
}

run "refuses_an_unknown_service" {
  command         = plan
  expect_failures = [var.services]

  variables {
    services = ["s3"]
  }
}

run "refuses_a_key_without_a_purpose" {
  command         = plan
  expect_failures = [var.description]

  variables {
    description = " "
  }
}

run "refuses_a_window_that_kms_does_not_have" {
  command         = plan
  expect_failures = [var.deletion_window_days]

  variables {
    deletion_window_days = 6
  }
}

run "refuses_a_wrong_name" {
  command         = plan
  expect_failures = [var.name]

  variables {
    name = "causeway_test"
  }
}

run "has_an_alias_of_its_own" {
  command = plan

  variables {
    alias = "causeway-test-secrets"
  }

  assert {
    condition     = aws_kms_alias.this.name == "alias/causeway-test-secrets"
    error_message = "a second key of a region has another alias"
  }
}

run "refuses_an_alias_with_a_slash" {
  command         = plan
  expect_failures = [var.alias]

  variables {
    alias = "alias/causeway"
  }
}
