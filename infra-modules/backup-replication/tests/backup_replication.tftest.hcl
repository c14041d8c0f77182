mock_provider "aws" {
  override_during = plan

  mock_data "aws_region" {
    defaults = { region = "eu-west-1" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/causeway-test-backup-replication-eu-west-1" }
  }
}

variables {
  name                 = "causeway-test"
  permissions_boundary = "arn:aws:iam::123456789012:policy/workloads"
  source_bucket = {
    bucket      = "causeway-test-backup-eu-west-1"
    arn         = "arn:aws:s3:::causeway-test-backup-eu-west-1"
    kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  }
  destination = {
    arn         = "arn:aws:s3:::causeway-test-backup-eu-central-1"
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000001"
    region      = "eu-central-1"
  }
}

run "everything_but_deletions_is_copied" {
  command = plan

  assert {
    condition     = aws_s3_bucket_replication_configuration.this.rule[0].status == "Enabled" && aws_s3_bucket_replication_configuration.this.rule[0].delete_marker_replication[0].status == "Disabled"
    error_message = "What is deleted on one side must stay on the other."
  }
  assert {
    condition = (
      aws_s3_bucket_replication_configuration.this.rule[0].source_selection_criteria[0].sse_kms_encrypted_objects[0].status == "Enabled" &&
      aws_s3_bucket_replication_configuration.this.rule[0].destination[0].encryption_configuration[0].replica_kms_key_id == var.destination.kms_key_arn
    )
    error_message = "Encrypted objects must be copied, and encrypted by the other region's key."
  }
  assert {
    condition = (
      aws_s3_bucket_replication_configuration.this.rule[0].destination[0].replication_time[0].status == "Enabled" &&
      aws_s3_bucket_replication_configuration.this.rule[0].destination[0].metrics[0].status == "Enabled"
    )
    error_message = "It must be seen how far behind the copies are."
  }
  assert {
    condition     = output.rule == { bucket = "causeway-test-backup-eu-west-1", destination = "causeway-test-backup-eu-central-1", rule = "all" } && output.role_arn == aws_iam_role.this.arn
    error_message = "The outputs must name the role, the bucket and the rule."
  }
}

run "role_copies_and_does_nothing_else" {
  command = plan

  assert {
    condition = alltrue([
      for statement in jsondecode(aws_iam_role_policy.this.policy).Statement : alltrue([
        for action in flatten([statement.Action]) : !strcontains(action, "*") && !strcontains(action, "Delete")
      ])
    ])
    error_message = "The role may hold no wildcard, and delete nothing."
  }
  assert {
    condition     = alltrue([for statement in jsondecode(aws_iam_role_policy.this.policy).Statement : statement.Resource != "*"])
    error_message = "The role's resources must be named."
  }
  assert {
    condition = {
      for statement in jsondecode(aws_iam_role_policy.this.policy).Statement : statement.Sid => "${statement.Resource} ${statement.Condition.StringEquals["kms:ViaService"]}" if can(statement.Condition)
      } == {
      Decrypt = "${var.source_bucket.kms_key_arn} s3.eu-west-1.amazonaws.com"
      Encrypt = "${var.destination.kms_key_arn} s3.eu-central-1.amazonaws.com"
    }
    error_message = "The role must decrypt by the source's key and encrypt by the destination's, through S3 only."
  }
  assert {
    condition     = jsondecode(aws_iam_role.this.assume_role_policy).Statement[0].Principal == { Service = "s3.amazonaws.com" } && endswith(aws_iam_role.this.name, "-eu-west-1") && aws_iam_role.this.permissions_boundary == var.permissions_boundary
    error_message = "Only S3 may take the role, which must have the region in its name, and its boundary."
  }
}

run "refuses_one_region_for_both" {
  command         = plan
  expect_failures = [aws_s3_bucket_replication_configuration.this]

  variables {
    destination = {
      arn         = "arn:aws:s3:::causeway-test-other"
      kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000001"
      region      = "eu-west-1"
    }
  }
}

run "refuses_a_copy_to_itself" {
  command         = plan
  expect_failures = [aws_s3_bucket_replication_configuration.this]

  variables {
    destination = {
      arn         = "arn:aws:s3:::causeway-test-backup-eu-west-1"
      kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000001"
      region      = "eu-central-1"
    }
  }
}

run "refuses_a_destination_key_of_another_region" {
  command         = plan
  expect_failures = [var.destination]

  variables {
    destination = {
      arn         = "arn:aws:s3:::causeway-test-backup-eu-central-1"
      kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
      region      = "eu-central-1"
    }
  }
}

run "refuses_a_source_that_is_not_encrypted_by_a_key" {
  command         = plan
  expect_failures = [var.source_bucket]

  variables {
    source_bucket = {
      bucket      = "causeway-test-backup-eu-west-1"
      arn         = "arn:aws:s3:::causeway-test-backup-eu-west-1"
      kms_key_arn = "aws/s3"
    }
  }
}

run "refuses_a_wrong_name" {
  command         = plan
  expect_failures = [var.name]

  variables {
    name = "causeway-production-europe-west"
  }
}

run "refuses_a_boundary_that_is_not_a_policy" {
  command         = plan
  expect_failures = [var.permissions_boundary]

  variables {
    permissions_boundary = "arn:aws:iam::123456789012:role/workloads"
  }
}
