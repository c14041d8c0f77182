# Invalid inputs are rejected at plan, each with the remedy.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name         = "causeway-test"
  alarm_emails = ["oncall@example.com"]
  kms_key_arn  = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
}

run "a_name_that_begins_with_a_digit" {
  command = plan
  variables {
    name = "1causeway"
  }
  expect_failures = [var.name]
}

run "no_recipient_of_alarms" {
  command = plan
  variables {
    alarm_emails = []
  }
  expect_failures = [var.alarm_emails]
}

run "recipient_without_an_address" {
  command = plan
  variables {
    alarm_emails = ["oncall"]
  }
  expect_failures = [var.alarm_emails]
}

run "a_budget_of_nothing" {
  command = plan
  variables {
    budget = { monthly_usd = 0, emails = ["owner@example.com"] }
  }
  expect_failures = [var.budget]
}

run "a_budget_without_recipient" {
  command = plan
  variables {
    budget = { monthly_usd = 400, emails = [] }
  }
  expect_failures = [var.budget]
}

run "more_recipients_of_the_budget_than_aws_takes" {
  command = plan
  variables {
    budget = { monthly_usd = 400, emails = [for number in range(11) : "owner-${number}@example.com"] }
  }
  expect_failures = [var.budget]
}

run "a_bucket_that_may_have_nothing" {
  command = plan
  variables {
    bucket_sizes = { backup = { bucket = "causeway-test-backup", alarm_gib = 0 } }
  }
  expect_failures = [var.bucket_sizes]
}

run "a_latency_below_a_minute" {
  command = plan
  variables {
    replication_latency_seconds = 10
  }
  expect_failures = [var.replication_latency_seconds]
}

run "unsupported_retention" {
  command = plan
  variables {
    log_retention_days = 31
  }
  expect_failures = [var.log_retention_days]
}
