# One primary and its replicas, without cluster mode: a value and its generation must be on one node.

data "aws_region" "this" {}

locals {
  port = 6379
}

resource "aws_elasticache_subnet_group" "this" {
  name        = "${var.name}-cache"
  description = "Cache of ${var.name}"
  subnet_ids  = var.subnet_ids
}

resource "aws_elasticache_replication_group" "this" {
  #checkov:skip=CKV_AWS_31: the token is in `auth_token_wo`, which checkov does not support
  #checkov:skip=CKV2_AWS_50: the number of replicas is an input
  replication_group_id = "${var.name}-cache"
  description          = "Cache of ${var.name}"
  engine               = "valkey"
  engine_version       = var.engine_version
  node_type            = var.node_type
  port                 = local.port

  num_cache_clusters         = var.replicas + 1
  automatic_failover_enabled = var.replicas > 0
  multi_az_enabled           = var.replicas > 0

  subnet_group_name  = aws_elasticache_subnet_group.this.name
  security_group_ids = [aws_security_group.this.id]

  transit_encryption_enabled = true
  transit_encryption_mode    = "required"
  at_rest_encryption_enabled = true
  kms_key_id                 = var.kms_key_arn

  auth_token_wo              = ephemeral.random_password.token.result
  auth_token_wo_version      = var.auth_version
  auth_token_update_strategy = "ROTATE"

  auto_minor_version_upgrade = true
  # Cached values can be read again: no snapshots, and changes apply at once.
  snapshot_retention_limit = 0
  apply_immediately        = true

  lifecycle {
    precondition {
      condition     = strcontains(var.kms_key_arn, ":kms:${data.aws_region.this.region}:")
      error_message = "`kms_key_arn` is ${var.kms_key_arn}, and the cache is in ${data.aws_region.this.region}: name a key of this region."
    }
  }
}
