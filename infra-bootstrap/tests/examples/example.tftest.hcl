# Run by infra-tests with each file of examples/, on providers that ask no account: policies are
# rendered as they will be, and tags are those of the provider.

override_data {
  target = data.aws_caller_identity.this
  values = { account_id = "123456789012" }
}

# In place of the example's, which is refused.
variables {
  repository     = "octo-org/octo-repo"
  repository_ids = { owner = 123456, repository = 456789 }
}

run "planned" {
  command = plan

  assert {
    condition     = aws_s3_bucket.state.tags_all == tomap({ project = var.project, environment = "shared", region_role = "state", owner = var.owner })
    error_message = "the default tags reach every resource"
  }

  assert {
    condition     = aws_s3_bucket.state.region == "eu-north-1" && aws_s3_bucket.state.bucket == "${var.project}-state-123456789012"
    error_message = "the state is in the third region"
  }
}
