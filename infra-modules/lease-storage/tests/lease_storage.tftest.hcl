mock_provider "aws" {
  override_during = plan

  mock_data "aws_region" {
    defaults = { region = "eu-north-1" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
}

variables {
  name             = "causeway-test"
  bucket           = "causeway-test-lease"
  cluster          = "main"
  database_regions = ["eu-west-1", "eu-central-1"]
  node_role_arns = [
    "arn:aws:iam::123456789012:role/causeway-test-postgres-eu-west-1*",
    "arn:aws:iam::123456789012:role/causeway-test-postgres-eu-central-1*",
  ]
  operator_role_arns = ["arn:aws:iam::123456789012:role/causeway-operator"]
}

run "bucket" {
  command = plan

  assert {
    condition     = aws_s3_bucket_versioning.this.versioning_configuration[0].status == "Enabled"
    error_message = "The bucket must be versioned."
  }
  assert {
    condition     = alltrue([for rule in aws_s3_bucket_server_side_encryption_configuration.this.rule : rule.apply_server_side_encryption_by_default[0].sse_algorithm == "AES256"])
    error_message = "The bucket must be encrypted, without a key that could be out of reach."
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
    condition = (
      aws_s3_bucket_lifecycle_configuration.this.rule[0].noncurrent_version_expiration[0].noncurrent_days == 7 &&
      aws_s3_bucket_lifecycle_configuration.this.rule[0].abort_incomplete_multipart_upload[0].days_after_initiation == 1
    )
    error_message = "Replaced versions and unfinished uploads must go."
  }
  assert {
    condition     = length(aws_s3_bucket_lifecycle_configuration.this.rule[0].expiration) == 0
    error_message = "The lease and the journals may not expire."
  }
  assert {
    condition     = output.bucket == "causeway-test-lease" && output.arn == "arn:aws:s3:::causeway-test-lease" && output.region == "eu-north-1"
    error_message = "The outputs must say where the lease is."
  }
}

run "policy_grants_nothing" {
  command = plan

  assert {
    condition     = alltrue([for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement : statement.Effect == "Deny" && statement.Principal == "*"])
    error_message = "The bucket policy may only deny, and must deny everybody."
  }
}

run "policy_wants_tls" {
  command = plan

  assert {
    condition = anytrue([
      for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement :
      try(statement.Action == "s3:*" && statement.Condition.Bool["aws:SecureTransport"] == "false" &&
      toset(statement.Resource) == toset(["arn:aws:s3:::causeway-test-lease", "arn:aws:s3:::causeway-test-lease/*"]), false)
    ])
    error_message = "Everything without TLS must be denied."
  }
}

run "policy_wants_conditional_writes" {
  command = plan

  # Both keys in one operator: denied is a write that has neither header, from any sender, to any key.
  assert {
    condition = anytrue([
      for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement :
      try(statement.Action == "s3:PutObject" && statement.Resource == "arn:aws:s3:::causeway-test-lease/*" &&
      jsonencode(statement.Condition) == jsonencode({ Null = { "s3:if-match" = "true", "s3:if-none-match" = "true" } }), false)
    ])
    error_message = "A write with neither If-Match nor If-None-Match must be denied."
  }
}

run "policy_names_who_writes_and_where" {
  command = plan

  assert {
    condition = anytrue([
      for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement :
      try(toset(statement.Condition.ArnNotLike["aws:PrincipalArn"]) == toset(concat(var.node_role_arns, var.operator_role_arns)), false)
    ])
    error_message = "Only nodes and operators may write."
  }
  assert {
    condition = anytrue([
      for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement :
      try(statement.Action == "s3:PutObject" && statement.NotResource == "arn:aws:s3:::causeway-test-lease/clusters/main/*" && !can(statement.Condition), false)
    ])
    error_message = "Nothing may be written outside of the cluster's keys."
  }
  assert {
    condition = anytrue([
      for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement :
      try(toset(statement.Action) == toset(["s3:DeleteObject", "s3:DeleteObjectVersion"]) && !can(statement.Condition), false)
    ])
    error_message = "No principal may delete the lease."
  }
}

run "refuses_a_region_with_a_database" {
  command         = plan
  expect_failures = [aws_s3_bucket.this]

  variables {
    database_regions = ["eu-west-1", "eu-north-1"]
  }
}

run "refuses_no_database_regions" {
  command         = plan
  expect_failures = [var.database_regions]

  variables {
    database_regions = []
  }
}

run "refuses_a_wrong_bucket_name" {
  command         = plan
  expect_failures = [var.bucket]

  variables {
    bucket = "Causeway.Lease"
  }
}

run "refuses_a_wrong_cluster_name" {
  command         = plan
  expect_failures = [var.cluster]

  variables {
    cluster = "main/*"
  }
}

run "refuses_no_writer" {
  command         = plan
  expect_failures = [var.node_role_arns]

  variables {
    node_role_arns = []
  }
}

run "refuses_a_node_role_that_is_none" {
  command         = plan
  expect_failures = [var.node_role_arns]

  variables {
    node_role_arns = ["*"]
  }
}

run "refuses_all_roles" {
  command         = plan
  expect_failures = [var.node_role_arns]

  variables {
    node_role_arns = ["arn:aws:iam::123456789012:role/*"]
  }
}

run "refuses_an_operator_that_is_not_a_role" {
  command         = plan
  expect_failures = [var.operator_role_arns]

  variables {
    operator_role_arns = ["arn:aws:iam::123456789012:user/alice"]
  }
}

run "refuses_any_role_as_an_operator" {
  command         = plan
  expect_failures = [var.operator_role_arns]

  variables {
    operator_role_arns = ["arn:aws:iam::123456789012:role/*"]
  }
}

run "refuses_to_keep_every_version" {
  command         = plan
  expect_failures = [var.noncurrent_days]

  variables {
    noncurrent_days = 365
  }
}

run "refuses_a_wrong_name" {
  command         = plan
  expect_failures = [var.name]

  variables {
    name = "causeway.test"
  }
}
