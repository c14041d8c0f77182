mock_provider "aws" {
  override_during = plan

  mock_data "aws_region" {
    defaults = { region = "eu-west-1" }
  }
  mock_resource "aws_secretsmanager_secret" {
    defaults = { arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/example-AbCdEf" }
  }
}

variables {
  name        = "causeway-test"
  kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  replica = {
    region      = "eu-central-1"
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000001"
  }
  secrets = {
    replicator          = { description = "The standbys' password" }
    command-signing-key = { description = "Signs commands", kind = "key", length = 64 }
    identity            = { description = "The identity that opens backups", kind = "given" }
  }
}

run "secrets_outlive_the_region" {
  command = plan

  assert {
    condition = alltrue([
      for secret in aws_secretsmanager_secret.this :
      secret.kms_key_id == var.kms_key_arn && [for r in secret.replica : "${r.region} ${r.kms_key_id}"] == ["eu-central-1 ${var.replica.kms_key_arn}"]
    ])
    error_message = "Each secret must be encrypted by the given key, and have a copy under the other region's."
  }
  assert {
    condition     = alltrue([for secret in aws_secretsmanager_secret.this : secret.recovery_window_in_days == 30])
    error_message = "A secret that was deleted by mistake must be there for a month."
  }
  assert {
    condition     = aws_secretsmanager_secret.this["command-signing-key"].name == "causeway-test/command-signing-key"
    error_message = "Names must begin with the platform's."
  }
  assert {
    condition     = output.replica_arns["command-signing-key"] == "arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway-test/example-AbCdEf"
    error_message = "The copy's ARN must be of the other region."
  }
  assert {
    condition     = toset(keys(output.arns)) == toset(["command-signing-key", "identity", "replicator"])
    error_message = "Every secret must have an ARN."
  }
}

run "values_are_in_no_state" {
  command = plan

  assert {
    condition     = toset(keys(aws_secretsmanager_secret_version.this)) == toset(["command-signing-key", "replicator"])
    error_message = "Values are made for passwords and keys, and given for the rest."
  }
  assert {
    condition = alltrue([
      for version in aws_secretsmanager_secret_version.this :
      version.secret_string_wo == null && nonsensitive(version.secret_string == null || version.secret_string == "") && version.secret_string_wo_version == 1
    ])
    error_message = "A value may be written only by the write-only argument."
  }
}

run "a_higher_generation_writes_new_values" {
  command = plan

  variables {
    generation = 2
  }

  assert {
    condition     = alltrue([for version in aws_secretsmanager_secret_version.this : version.secret_string_wo_version == 2])
    error_message = "Raising generation must write every value anew."
  }
}

run "without_a_replica" {
  command = plan

  variables {
    replica = null
  }

  assert {
    condition     = length(output.replica_arns) == 0 && alltrue([for secret in aws_secretsmanager_secret.this : length(secret.replica) == 0])
    error_message = "Without a replica there must be no copy."
  }
}

run "refuses_a_replica_in_this_region" {
  command         = plan
  expect_failures = [aws_secretsmanager_secret.this]

  variables {
    replica = {
      region      = "eu-west-1"
      kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000001"
    }
  }
}

run "refuses_a_replica_with_a_key_of_another_region" {
  command         = plan
  expect_failures = [var.replica]

  variables {
    replica = {
      region      = "eu-central-1"
      kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
    }
  }
}

run "refuses_a_key_that_is_none" {
  command         = plan
  expect_failures = [var.kms_key_arn]

  variables {
    kms_key_arn = "alias/causeway"
  }
}

run "refuses_a_wrong_name_of_a_secret" {
  command         = plan
  expect_failures = [var.secrets]

  variables {
    secrets = { Replicator_Password = { description = "The standbys' password" } }
  }
}

run "refuses_an_unknown_kind" {
  command         = plan
  expect_failures = [var.secrets]

  variables {
    secrets = { replicator = { description = "The standbys' password", kind = "token" } }
  }
}

run "refuses_a_short_password" {
  command         = plan
  expect_failures = [var.secrets]

  variables {
    secrets = { replicator = { description = "The standbys' password", length = 16 } }
  }
}

run "refuses_a_short_key" {
  command         = plan
  expect_failures = [var.secrets]

  variables {
    secrets = { command-signing-key = { description = "Signs commands", kind = "key", length = 24 } }
  }
}

run "refuses_an_unused_secret" {
  command         = plan
  expect_failures = [var.secrets]

  variables {
    secrets = { replicator = { description = "" } }
  }
}

run "refuses_a_generation_that_is_none" {
  command         = plan
  expect_failures = [var.generation]

  variables {
    generation = 0
  }
}

run "refuses_a_recovery_window_that_does_not_exist" {
  command         = plan
  expect_failures = [var.recovery_window_days]

  variables {
    recovery_window_days = 3
  }
}

run "refuses_a_wrong_name" {
  command         = plan
  expect_failures = [var.name]

  variables {
    name = ""
  }
}
