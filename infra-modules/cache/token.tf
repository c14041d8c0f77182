# The token is generated during the apply, written to ElastiCache and Secrets Manager, and stored nowhere else.

ephemeral "random_password" "token" {
  length  = 64
  special = false
}

resource "aws_secretsmanager_secret" "token" {
  #checkov:skip=CKV2_AWS_57: `auth_version` changes it in the cache and here together, which Secrets Manager's rotation cannot
  # A deleted secret reserves its name for 30 days; a cache may be removed and created again within them.
  name_prefix = "${var.name}/cache-"
  description = "Password of the cache of ${var.name}"
  kms_key_id  = var.kms_key_arn
}

resource "aws_secretsmanager_secret_version" "token" {
  secret_id                = aws_secretsmanager_secret.token.id
  secret_string_wo         = ephemeral.random_password.token.result
  secret_string_wo_version = var.auth_version
}
