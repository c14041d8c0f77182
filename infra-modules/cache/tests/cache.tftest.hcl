mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name                      = "causeway-test"
  vpc_id                    = "vpc-0123456789abcdef0"
  subnet_ids                = ["subnet-0a", "subnet-0b"]
  client_security_group_ids = { api = "sg-0a" }
  kms_key_arn               = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
}

run "encrypted_everywhere" {
  command = plan

  assert {
    condition     = aws_elasticache_replication_group.this.transit_encryption_enabled && aws_elasticache_replication_group.this.transit_encryption_mode == "required"
    error_message = "the cache must require TLS"
  }

  assert {
    condition     = tobool(aws_elasticache_replication_group.this.at_rest_encryption_enabled) && aws_elasticache_replication_group.this.kms_key_id == var.kms_key_arn && aws_secretsmanager_secret.token.kms_key_id == var.kms_key_arn
    error_message = "what is stored must be encrypted with the given key"
  }
}

run "the_token_is_in_no_state" {
  command = plan

  assert {
    condition     = aws_elasticache_replication_group.this.auth_token == null && aws_secretsmanager_secret_version.token.secret_string == null
    error_message = "the token must be written, and never read back"
  }

  assert {
    condition     = aws_elasticache_replication_group.this.auth_token_wo_version == 1 && aws_secretsmanager_secret_version.token.secret_string_wo_version == 1
    error_message = "the cache and the secret must get a new token together"
  }
}

run "a_cache_can_be_turned_off_and_on" {
  command = plan

  assert {
    condition     = aws_secretsmanager_secret.token.name_prefix == "causeway-test/cache-"
    error_message = "the secret must get a name that no deleted one has"
  }
}

run "a_replica_takes_over" {
  command = plan

  assert {
    condition     = aws_elasticache_replication_group.this.num_cache_clusters == 2 && aws_elasticache_replication_group.this.automatic_failover_enabled && aws_elasticache_replication_group.this.multi_az_enabled
    error_message = "with a replica the cache must fail over to another zone"
  }
}

run "one_node_is_enough" {
  command = plan

  variables {
    replicas   = 0
    subnet_ids = ["subnet-0a"]
  }

  assert {
    condition     = aws_elasticache_replication_group.this.num_cache_clusters == 1 && !aws_elasticache_replication_group.this.automatic_failover_enabled && !aws_elasticache_replication_group.this.multi_az_enabled
    error_message = "without replicas there is nothing to fail over to"
  }
}

run "only_clients_reach_it" {
  command = plan

  assert {
    condition     = alltrue([for it in aws_vpc_security_group_ingress_rule.client : it.from_port == 6379 && it.to_port == 6379 && it.referenced_security_group_id == "sg-0a" && it.cidr_ipv4 == null])
    error_message = "only the named groups may reach the cache, at its port"
  }
}

run "raised_auth_version_changes_both_copies_of_the_token" {
  command = plan

  variables {
    auth_version = 2
  }

  assert {
    condition     = aws_elasticache_replication_group.this.auth_token_wo_version == 2 && aws_secretsmanager_secret_version.token.secret_string_wo_version == 2 && aws_elasticache_replication_group.this.auth_token_update_strategy == "ROTATE"
    error_message = "the cache must accept the old token beside the new one until the API is deployed"
  }
}
