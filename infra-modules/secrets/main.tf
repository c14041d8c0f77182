data "aws_region" "current" {}

locals {
  made = { for name, secret in var.secrets : name => secret if secret.kind != "given" }
}

resource "aws_secretsmanager_secret" "this" {
  for_each = var.secrets

  #checkov:skip=CKV2_AWS_57:A new value has to reach PostgreSQL and every client in order; the playbook rotate-secrets does that, and a function that rotates automatically would not.
  name                    = "${var.name}/${each.key}"
  description             = each.value.description
  kms_key_id              = var.kms_key_arn
  recovery_window_in_days = var.recovery_window_days

  dynamic "replica" {
    for_each = var.replica == null ? [] : [var.replica]

    content {
      region     = replica.value.region
      kms_key_id = replica.value.kms_key_arn
    }
  }

  tags = { Name = "${var.name}-${each.key}" }

  lifecycle {
    precondition {
      condition     = try(var.replica.region, "") != data.aws_region.current.region
      error_message = "replica.region is this region, ${data.aws_region.current.region}: name the other one."
    }
  }
}

# Generated during the apply and written to Secrets Manager: neither the plan nor the state contains a value.

ephemeral "random_password" "this" {
  for_each = local.made

  length  = each.value.length
  special = false
}

resource "aws_secretsmanager_secret_version" "this" {
  for_each = local.made

  secret_id                = aws_secretsmanager_secret.this[each.key].id
  secret_string_wo         = ephemeral.random_password.this[each.key].result
  secret_string_wo_version = var.generation
}
