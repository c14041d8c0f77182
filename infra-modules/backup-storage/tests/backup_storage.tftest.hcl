mock_provider "aws" {
  override_during = plan

  mock_data "aws_region" {
    defaults = { region = "eu-west-1" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
}

variables {
  name                  = "causeway-test"
  bucket                = "causeway-test-backup-eu-west-1"
  kms_key_arn           = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  retention_days        = 30
  backup_interval_hours = 36
  writer_role_arns      = ["arn:aws:iam::123456789012:role/causeway-test-postgres-eu-west-1*"]
  reader_role_arns      = ["arn:aws:iam::123456789012:role/causeway-test-restore"]
}

run "bucket" {
  command = plan

  assert {
    condition     = aws_s3_bucket.this.object_lock_enabled && aws_s3_bucket_versioning.this.versioning_configuration[0].status == "Enabled"
    error_message = "The bucket must be versioned, and made for object lock."
  }
  assert {
    condition = (
      aws_s3_bucket_object_lock_configuration.this.rule[0].default_retention[0].mode == "GOVERNANCE" &&
      aws_s3_bucket_object_lock_configuration.this.rule[0].default_retention[0].days == 14
    )
    error_message = "Objects must be locked by default, in governance mode unless set otherwise."
  }
  assert {
    condition = alltrue([
      for rule in aws_s3_bucket_server_side_encryption_configuration.this.rule :
      rule.bucket_key_enabled && rule.apply_server_side_encryption_by_default[0].sse_algorithm == "aws:kms" &&
      rule.apply_server_side_encryption_by_default[0].kms_master_key_id == var.kms_key_arn
    ])
    error_message = "The bucket must be encrypted by the given KMS key."
  }
  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.this.block_public_acls, aws_s3_bucket_public_access_block.this.block_public_policy,
      aws_s3_bucket_public_access_block.this.ignore_public_acls, aws_s3_bucket_public_access_block.this.restrict_public_buckets,
    ])
    error_message = "Public access must be blocked in all four ways."
  }
  assert {
    condition     = aws_s3_bucket_ownership_controls.this.rule[0].object_ownership == "BucketOwnerEnforced"
    error_message = "Access lists must be off."
  }
  assert {
    condition     = output.bucket == var.bucket && output.arn == "arn:aws:s3:::causeway-test-backup-eu-west-1" && output.kms_key_arn == var.kms_key_arn
    error_message = "The outputs must be the bucket and its key."
  }
}

run "keeps_what_is_current" {
  command = plan

  # The newest backup may need the oldest object. S3 takes no age beside this.
  assert {
    condition = alltrue([
      for rule in aws_s3_bucket_lifecycle_configuration.this.rule :
      alltrue([for it in rule.expiration : it.expired_object_delete_marker == true])
    ])
    error_message = "No object may expire by its age."
  }
  assert {
    condition = (
      aws_s3_bucket_lifecycle_configuration.this.rule[0].noncurrent_version_expiration[0].noncurrent_days == 14 &&
      aws_s3_bucket_lifecycle_configuration.this.rule[0].abort_incomplete_multipart_upload[0].days_after_initiation == 2 &&
      aws_s3_bucket_lifecycle_configuration.this.rule[0].expiration[0].expired_object_delete_marker
    )
    error_message = "Old versions, unfinished uploads and what marks a deletion must go."
  }
}

run "compliance_mode" {
  command = plan

  variables {
    object_lock = { mode = "COMPLIANCE", days = 30 }
  }

  assert {
    condition = (
      aws_s3_bucket_object_lock_configuration.this.rule[0].default_retention[0].mode == "COMPLIANCE" &&
      aws_s3_bucket_object_lock_configuration.this.rule[0].default_retention[0].days == 30
    )
    error_message = "Compliance mode must be an input."
  }
}

run "policy_grants_nothing" {
  command = plan

  assert {
    condition     = alltrue([for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement : statement.Effect == "Deny" && statement.Principal == "*"])
    error_message = "The bucket policy may only deny, and must deny everybody."
  }
  assert {
    condition = anytrue([
      for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement :
      try(statement.Action == "s3:*" && statement.Condition.Bool["aws:SecureTransport"] == "false", false)
    ])
    error_message = "Everything without TLS must be denied."
  }
}

run "policy_protects_what_is_stored" {
  command = plan

  assert {
    condition = anytrue([
      for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement :
      try(statement.Action == "s3:PutObject" && statement.Condition.Null["s3:if-none-match"] == "true" && statement.Condition.Bool["s3:ObjectCreationOperation"] == "true", false)
    ])
    error_message = "An object may only be created, and never overwritten."
  }
  assert {
    condition = anytrue([
      for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement :
      try(contains(statement.Action, "s3:DeleteObjectVersion") && contains(statement.Action, "s3:BypassGovernanceRetention") &&
      contains(statement.Condition.ArnLike["aws:PrincipalArn"], var.writer_role_arns[0]), false)
    ])
    error_message = "Those who write may not delete."
  }
  assert {
    condition = anytrue([
      for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement :
      try(statement.Action == "s3:PutObject" && toset(statement.Condition.ArnNotLike["aws:PrincipalArn"]) == toset(var.writer_role_arns), false)
    ])
    error_message = "Only the database nodes may write."
  }
  assert {
    condition = anytrue([
      for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement :
      try(contains(statement.Action, "s3:GetObject") && toset(statement.Condition.ArnNotLike["aws:PrincipalArn"]) == toset(concat(var.writer_role_arns, var.reader_role_arns)), false)
    ])
    error_message = "Only the named roles may read."
  }
}

# A condition that negates is true of a header that is not there. Without Null every write by the bucket's default would be denied.
run "policy_lets_the_default_encryption_be" {
  command = plan

  assert {
    condition = alltrue([
      for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement :
      try(statement.Condition.Null["s3:x-amz-server-side-encryption"], statement.Condition.Null["s3:x-amz-server-side-encryption-aws-kms-key-id"], "") == "false"
      if contains(["DenyOtherEncryption", "DenyOtherKeys"], statement.Sid)
    ])
    error_message = "A write that asks for no encryption must be taken, and be encrypted by the bucket's default."
  }
  assert {
    condition     = length([for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement : statement if contains(["DenyOtherEncryption", "DenyOtherKeys"], statement.Sid)]) == 2
    error_message = "Other encryption and other keys must be denied."
  }
}

run "nobody_deletes_by_default" {
  command = plan

  assert {
    condition     = length(aws_iam_role.expirer) == 0 && output.expirer_role_arn == null
    error_message = "Without operators there must be no role that deletes."
  }
}

run "expirer_deletes_with_mfa_and_reads_nothing" {
  command = plan

  variables {
    expirer = { principal_arns = ["arn:aws:iam::123456789012:user/operator"] }
  }

  assert {
    condition = (
      jsondecode(aws_iam_role.expirer[0].assume_role_policy).Statement[0].Condition.Bool["aws:MultiFactorAuthPresent"] == "true" &&
      jsondecode(aws_iam_role.expirer[0].assume_role_policy).Statement[0].Principal.AWS == ["arn:aws:iam::123456789012:user/operator"]
    )
    error_message = "Only the named operators may assume the role, and with MFA."
  }
  assert {
    condition = toset(flatten([for statement in jsondecode(aws_iam_role_policy.expirer[0].policy).Statement : statement.Action])) == toset([
      "s3:ListBucket", "s3:ListBucketVersions", "s3:DeleteObject",
    ])
    error_message = "The role must list and delete, and neither read nor delete a version."
  }
  assert {
    condition = anytrue([
      for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement :
      try(statement.Action == ["s3:DeleteObject"] && statement.Condition.ArnNotLike["aws:PrincipalArn"] == ["arn:aws:iam::123456789012:role/causeway-test-backup-expirer-eu-west-1"], false)
    ])
    error_message = "No other role may delete then, an administrator's included."
  }
}

run "expirer_without_mfa" {
  command = plan

  variables {
    expirer = { principal_arns = ["arn:aws:iam::123456789012:role/operator"], mfa = false }
  }

  assert {
    condition     = !can(jsondecode(aws_iam_role.expirer[0].assume_role_policy).Statement[0].Condition)
    error_message = "Where sessions do not tell of MFA, the condition must be an input."
  }
}

run "refuses_an_expirer_who_is_anybody" {
  command         = plan
  expect_failures = [var.expirer]

  variables {
    expirer = { principal_arns = ["arn:aws:iam::123456789012:role/*"] }
  }
}

run "refuses_an_expirer_that_reads" {
  command         = plan
  expect_failures = [var.expirer]

  variables {
    expirer = { principal_arns = ["arn:aws:iam::123456789012:role/causeway-test-restore"] }
  }
}

run "refuses_compliance_for_ten_years" {
  command         = plan
  expect_failures = [var.object_lock]

  variables {
    retention_days = 400
    object_lock    = { mode = "COMPLIANCE", days = 399 }
  }
}

run "refuses_a_retention_of_ten_years" {
  command         = plan
  expect_failures = [var.retention_days]

  variables {
    retention_days = 3650
  }
}

run "refuses_a_reader_with_a_wildcard" {
  command         = plan
  expect_failures = [var.reader_role_arns]

  variables {
    reader_role_arns = ["arn:aws:iam::123456789012:role/*"]
  }
}

run "refuses_a_retention_shorter_than_the_interval" {
  command         = plan
  expect_failures = [var.retention_days]

  variables {
    retention_days        = 7
    backup_interval_hours = 192
    object_lock           = { days = 7 }
  }
}

run "refuses_a_retention_of_no_days" {
  command         = plan
  expect_failures = [var.retention_days]

  variables {
    retention_days = 0
  }
}

run "refuses_an_interval_of_no_hours" {
  command         = plan
  expect_failures = [var.backup_interval_hours]

  variables {
    backup_interval_hours = 0
  }
}

run "refuses_an_unknown_lock" {
  command         = plan
  expect_failures = [var.object_lock]

  variables {
    object_lock = { mode = "governance", days = 14 }
  }
}

run "refuses_a_lock_of_no_days" {
  command         = plan
  expect_failures = [var.object_lock]

  variables {
    object_lock = { days = 0 }
  }
}

run "refuses_a_lock_longer_than_the_retention" {
  command         = plan
  expect_failures = [var.object_lock]

  variables {
    object_lock = { mode = "COMPLIANCE", days = 31 }
  }
}

run "refuses_a_lock_shorter_than_the_interval" {
  command         = plan
  expect_failures = [var.object_lock]

  variables {
    object_lock = { days = 1 }
  }
}

run "refuses_no_noncurrent_days" {
  command         = plan
  expect_failures = [var.noncurrent_days]

  variables {
    noncurrent_days = 0
  }
}

run "refuses_a_key_that_is_none" {
  command         = plan
  expect_failures = [var.kms_key_arn]

  variables {
    kms_key_arn = "alias/causeway"
  }
}

run "refuses_a_key_of_another_region" {
  command         = plan
  expect_failures = [aws_s3_bucket.this]

  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  }
}

run "refuses_no_writer" {
  command         = plan
  expect_failures = [var.writer_role_arns]

  variables {
    writer_role_arns = []
  }
}

run "refuses_a_wildcard_writer" {
  command         = plan
  expect_failures = [var.writer_role_arns]

  variables {
    writer_role_arns = ["arn:aws:iam::123456789012:role/*"]
  }
}

run "refuses_a_reader_that_is_not_a_role" {
  command         = plan
  expect_failures = [var.reader_role_arns]

  variables {
    reader_role_arns = ["*"]
  }
}

run "refuses_a_wrong_bucket_name" {
  command         = plan
  expect_failures = [var.bucket]

  variables {
    bucket = "backup_"
  }
}

run "refuses_a_wrong_name" {
  command         = plan
  expect_failures = [var.name]

  variables {
    name = "Causeway"
  }
}
