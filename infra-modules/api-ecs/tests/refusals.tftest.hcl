# Invalid inputs are rejected at plan, each with the remedy.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name               = "causeway-test"
  vpc_id             = "vpc-0123456789abcdef0"
  public_subnet_ids  = ["subnet-0a", "subnet-0b"]
  private_subnet_ids = ["subnet-1a", "subnet-1b"]
  image              = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/causeway/api:1.2.3"
  tasks              = { min = 2, desired = 2, max = 6 }
  certificate_arn    = "arn:aws:acm:eu-west-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"
  database = {
    hosts               = ["eu-west-1a-1.causeway.internal", "eu-west-1b-1.causeway.internal", "eu-central-1a-1.causeway.internal"]
    cidrs               = ["10.1.128.0/20", "10.2.128.0/20"]
    name                = "causeway"
    user                = "api_service"
    password_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/api-service-AbCdEf"
    ca_certificate_pem  = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
  }
  migration = {
    user                = "api_owner"
    password_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/api-owner-AbCdEf"
  }
  kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  aws_access  = { endpoint_security_group_id = "sg-0e", s3_prefix_list_id = "pl-0a" }
}

run "a_long_name" {
  command = plan
  variables {
    name = "causeway-of-a-very-long-name"
  }
  expect_failures = [var.name]
}

run "a_balancer_in_one_zone" {
  command = plan
  variables {
    public_subnet_ids = ["subnet-0a"]
  }
  expect_failures = [var.public_subnet_ids]
}

run "tasks_in_one_zone" {
  command = plan
  variables {
    private_subnet_ids = ["subnet-1a", "subnet-1a"]
  }
  expect_failures = [var.private_subnet_ids]
}

run "the_latest_image" {
  command = plan
  variables {
    image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/causeway/api:latest"
  }
  expect_failures = [var.image]
}

run "an_image_without_a_tag" {
  command = plan
  variables {
    image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/causeway/api"
  }
  expect_failures = [var.image]
}

run "an_unknown_architecture" {
  command = plan
  variables {
    architecture = "arm64"
  }
  expect_failures = [var.architecture]
}

run "unsupported_fargate_cpu" {
  command = plan
  variables {
    cpu = 300
  }
  expect_failures = [var.cpu]
}

run "memory_not_matching_cpu" {
  command = plan
  variables {
    memory = 8192
  }
  expect_failures = [var.memory]
}

run "min_above_max" {
  command = plan
  variables {
    tasks = { min = 4, desired = 4, max = 2 }
  }
  expect_failures = [var.tasks]
}

run "desired_below_min" {
  command = plan
  variables {
    tasks = { min = 2, desired = 1, max = 4 }
  }
  expect_failures = [var.tasks]
}

run "no_certificate" {
  command = plan
  variables {
    certificate_arn = "none"
  }
  expect_failures = [var.certificate_arn]
}

run "old_tls" {
  command = plan
  variables {
    tls_policy = "ELBSecurityPolicy-2016-08"
  }
  expect_failures = [var.tls_policy]
}

run "no_host" {
  command = plan
  variables {
    database = {
      hosts               = []
      cidrs               = ["10.1.128.0/20"]
      name                = "causeway"
      user                = "api_service"
      password_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/api-service-AbCdEf"
      ca_certificate_pem  = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
    }
  }
  expect_failures = [var.database]
}

run "a_database_on_the_internet" {
  command = plan
  variables {
    database = {
      hosts               = ["eu-west-1a-1.causeway.internal"]
      cidrs               = ["0.0.0.0/0"]
      name                = "causeway"
      user                = "api_service"
      password_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/api-service-AbCdEf"
      ca_certificate_pem  = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
    }
  }
  expect_failures = [var.database]
}

run "invalid_ca_certificate" {
  command = plan
  variables {
    database = {
      hosts               = ["eu-west-1a-1.causeway.internal"]
      cidrs               = ["10.1.128.0/20"]
      name                = "causeway"
      user                = "api_service"
      password_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/api-service-AbCdEf"
      ca_certificate_pem  = "/etc/root.crt"
    }
  }
  expect_failures = [var.database]
}

run "a_service_that_owns_the_schema" {
  command = plan
  variables {
    migration = { user = "api_service", password_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/other-AbCdEf" }
  }
  expect_failures = [var.migration]
}

run "a_password_in_the_settings" {
  command = plan
  variables {
    settings = { DATABASE_URL = "postgres://user:password@host/name" }
  }
  expect_failures = [var.settings]
}

run "a_setting_of_the_modules_own" {
  command = plan
  variables {
    settings = { PGSSLMODE = "disable" }
  }
  expect_failures = [var.settings]
}

run "a_negative_drain" {
  command = plan
  variables {
    drain = { delay = -1 }
  }
  expect_failures = [var.drain]
}

run "a_stop_before_the_drain_is_over" {
  command = plan
  variables {
    stop_timeout = 20
  }
  expect_failures = [var.stop_timeout]
}

run "stop_timeout_above_fargate_limit" {
  command = plan
  variables {
    stop_timeout = 300
  }
  expect_failures = [var.stop_timeout]
}

run "an_unknown_deployment" {
  command = plan
  variables {
    deployment = "canary"
  }
  expect_failures = [var.deployment]
}

run "a_bake_of_half_an_hour" {
  command = plan
  variables {
    bake_time_minutes = 30
  }
  expect_failures = [var.bake_time_minutes]
}

run "cpu_target_of_100_percent" {
  command = plan
  variables {
    scaling = { cpu_percent = 100 }
  }
  expect_failures = [var.scaling]
}

run "unsupported_retention" {
  command = plan
  variables {
    log_retention_days = 31
  }
  expect_failures = [var.log_retention_days]
}

run "unknown_health_check_path" {
  command = plan
  variables {
    health_check_path = "/"
  }
  expect_failures = [var.health_check_path]
}

run "more_tasks_than_connections" {
  command = plan
  variables {
    tasks = { min = 2, desired = 2, max = 17 }
  }
  expect_failures = [var.connection_limit]
}

run "connections_set_in_settings" {
  command = plan
  variables {
    settings = { DB_POOL_MAX = "100" }
  }
  expect_failures = [var.settings]
}

run "private_servers_without_a_ca_certificate" {
  command = plan
  variables {
    database = {
      hosts               = ["eu-west-1a-1.causeway.internal"]
      cidrs               = ["10.1.128.0/20"]
      name                = "causeway"
      user                = "api_service"
      password_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/api-service-AbCdEf"
    }
  }
  expect_failures = [var.database]
}

run "public_certificates_with_a_ca_certificate" {
  command = plan
  variables {
    database = {
      hosts               = ["eu-west-1a-1.causeway.internal"]
      cidrs               = ["10.1.128.0/20"]
      name                = "causeway"
      user                = "api_service"
      password_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/api-service-AbCdEf"
      public_certificates = true
      ca_certificate_pem  = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
    }
  }
  expect_failures = [var.database]
}

run "public_certificates_of_a_private_name" {
  command = plan
  variables {
    database = {
      hosts               = ["eu-west-1a-1.causeway.internal"]
      cidrs               = ["10.1.128.0/20"]
      name                = "causeway"
      user                = "api_service"
      password_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/api-service-AbCdEf"
      public_certificates = true
    }
  }
  expect_failures = [var.database]
}

run "a_private_key_as_a_ca_certificate" {
  command = plan
  variables {
    database = {
      hosts               = ["eu-west-1a-1.causeway.internal"]
      cidrs               = ["10.1.128.0/20"]
      name                = "causeway"
      user                = "api_service"
      password_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/api-service-AbCdEf"
      ca_certificate_pem  = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----"
    }
  }
  expect_failures = [var.database]
}

run "half_a_task" {
  command = plan
  variables {
    tasks = { min = 2, desired = 2.5, max = 6 }
  }
  expect_failures = [var.tasks]
}

run "half_a_connection" {
  command = plan
  variables {
    connection_limit = 97.5
  }
  expect_failures = [var.connection_limit]
}

run "half_a_second_of_drain" {
  command = plan
  variables {
    drain = { delay = 0.5 }
  }
  expect_failures = [var.drain]
}

run "half_a_second_to_stop" {
  command = plan
  variables {
    stop_timeout = 30.5
  }
  expect_failures = [var.stop_timeout]
}

run "half_a_minute_of_baking" {
  command = plan
  variables {
    bake_time_minutes = 0.5
  }
  expect_failures = [var.bake_time_minutes]
}

run "half_a_request" {
  command = plan
  variables {
    scaling = { requests_per_target = 0.5 }
  }
  expect_failures = [var.scaling]
}

run "a_misspelt_setting" {
  command = plan
  variables {
    settings = { COMPANYNAME = "Example" }
  }
  expect_failures = [var.settings]
}

run "metrics_back_on_the_public_port" {
  command = plan
  variables {
    settings = { METRICS_LISTEN = "" }
  }
  expect_failures = [var.settings]
}

run "metrics_for_everyone" {
  command = plan
  variables {
    monitoring_cidrs = ["0.0.0.0/0"]
  }
  expect_failures = [var.monitoring_cidrs]
}

run "an_image_of_another_region" {
  command = plan
  variables {
    image = "123456789012.dkr.ecr.eu-north-1.amazonaws.com/causeway/api:1.2.3"
  }
  expect_failures = [aws_ecs_task_definition.service]
}

run "an_image_outside_of_aws" {
  command = plan
  variables {
    image = "ghcr.io/example/api:1.2.3"
  }
  expect_failures = [aws_ecs_task_definition.service]
}

run "a_certificate_of_another_region" {
  command = plan
  variables {
    certificate_arn = "arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"
  }
  expect_failures = [aws_lb_listener.https]
}

run "a_key_of_another_region" {
  command = plan
  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  }
  expect_failures = [aws_cloudwatch_log_group.this]
}

run "a_secret_of_another_region" {
  command = plan
  variables {
    migration = { user = "api_owner", password_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:causeway-test/api-owner-AbCdEf" }
  }
  expect_failures = [aws_ecs_task_definition.service]
}

run "memory_between_the_steps_of_8_vcpu" {
  command = plan
  variables {
    cpu    = 8192
    memory = 18432
  }
  expect_failures = [var.memory]
}

run "a_name_that_a_load_balancer_refuses" {
  command = plan
  variables {
    name = "internal-test"
  }
  expect_failures = [var.name]
}

run "a_name_with_two_hyphens" {
  command = plan
  variables {
    name = "causeway--test"
  }
  expect_failures = [var.name]
}

run "a_firewall_group_of_no_one" {
  command = plan
  variables {
    waf_rule_groups = []
  }
  expect_failures = [var.waf_rule_groups]
}

run "an_access_log_to_an_arn" {
  command = plan
  variables {
    access_logs_bucket = "arn:aws:s3:::logs"
  }
  expect_failures = [var.access_logs_bucket]
}

run "a_rate_limit_below_that_of_waf" {
  command = plan
  variables {
    waf_rate_limit = 5
  }
  expect_failures = [var.waf_rate_limit]
}
