# The token is drawn while Terraform runs, given to ElastiCache and Secrets Manager, and kept nowhere else.

ephemeral "random_password" "token" {
  length  = 64
  special = false
}

resource "aws_secretsmanager_secret" "token" {
  #checkov:skip=CKV2_AWS_57: `auth_version` makes a new one in the cache and here at once, which a rotation here alone cannot
  # A deleted secret keeps its name for 30 days, and a cache may be turned off and on within them.
  name_prefix = "${var.name}/cache-"
  description = "Password of the cache of ${var.name}"
  kms_key_id  = var.kms_key_arn
}

resource "aws_secretsmanager_secret_version" "token" {
  secret_id                = aws_secretsmanager_secret.token.id
  secret_string_wo         = ephemeral.random_password.token.result
  secret_string_wo_version = var.auth_version
}
