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

run "the_service_is_closed_and_confined" {
  command = plan

  variables {
    redis = { host = "cache.example", port = 6379, auth_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/cache-AbCdEf", security_group_id = "sg-0c" }
  }

  assert {
    condition     = !aws_ecs_service.this.network_configuration[0].assign_public_ip && aws_ecs_service.this.network_configuration[0].subnets == toset(var.private_subnet_ids)
    error_message = "tasks must be in private subnets, without a public address"
  }

  assert {
    condition = alltrue([
      for it in concat(jsondecode(aws_ecs_task_definition.service.container_definitions), jsondecode(aws_ecs_task_definition.migration.container_definitions)) :
      it.name == "api" && it.readonlyRootFilesystem && it.linuxParameters.capabilities.drop == ["ALL"] && it.image == var.image && !contains(keys(it), "privileged") && !contains(keys(it), "user")
    ])
    error_message = "a container must be read-only, without capabilities, run as the image's user, and be named `api` for the pipeline"
  }

  assert {
    condition = alltrue([
      for it in concat(jsondecode(aws_ecs_task_definition.service.container_definitions), jsondecode(aws_ecs_task_definition.migration.container_definitions)) :
      it.logConfiguration.logDriver == "awslogs" && it.logConfiguration.options.awslogs-group == aws_cloudwatch_log_group.this.name
    ])
    error_message = "containers must log to CloudWatch"
  }

  assert {
    condition     = aws_cloudwatch_log_group.this.retention_in_days == var.log_retention_days && aws_cloudwatch_log_group.this.kms_key_id == var.kms_key_arn
    error_message = "the log group must have a retention and the given key"
  }

  assert {
    condition     = one(aws_ecs_cluster.this.setting).value == "enabled"
    error_message = "the cluster must be measured"
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.service.container_definitions)[0].healthCheck.command == ["CMD", "/usr/local/bin/api", "healthcheck"] && jsondecode(aws_ecs_task_definition.service.container_definitions)[0].stopTimeout == 30
    error_message = "the container must have a health check and 30 seconds to stop"
  }

  assert {
    condition     = one(jsondecode(aws_ecs_task_definition.service.container_definitions)[0].ulimits).softLimit == 65535
    error_message = "the limit of open files must leave room for the connections"
  }
}

run "passwords_come_from_secrets" {
  command = plan

  variables {
    redis = { host = "cache.example", port = 6379, auth_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/cache-AbCdEf", security_group_id = "sg-0c" }
  }

  assert {
    condition = {
      for it in jsondecode(aws_ecs_task_definition.service.container_definitions)[0].secrets : it.name => it.valueFrom
    } == { PGPASSWORD = var.database.password_secret_arn, REDIS_PASSWORD = var.redis.auth_secret_arn }
    error_message = "the service must be given the passwords of its role and of the cache"
  }

  assert {
    condition     = [for it in jsondecode(aws_ecs_task_definition.migration.container_definitions)[0].secrets : it.valueFrom] == [var.migration.password_secret_arn]
    error_message = "the migration must be given the owner's password alone"
  }

  assert {
    condition     = !anytrue([for it in jsondecode(aws_ecs_task_definition.service.container_definitions)[0].environment : strcontains(it.name, "PASS")])
    error_message = "no password may be plain"
  }

  assert {
    condition = toset([for it in jsondecode(aws_ecs_task_definition.migration.container_definitions)[0].environment : it.name]) == toset([
      "LOG_FORMAT", "PGDATABASE", "PGHOST", "PGPORT", "PGSSLMODE", "PGSSLROOTCERT", "PGUSER",
    ])
    error_message = "nor for the migration"
  }

  assert {
    condition     = { for it in jsondecode(aws_ecs_task_definition.service.container_definitions)[0].environment : it.name => it.value }["REDIS_TLS"] == "true"
    error_message = "the cache must be asked over TLS"
  }

  assert {
    condition = alltrue([
      for it in concat(data.aws_iam_policy_document.assume_task.statement, data.aws_iam_policy_document.assume_deployment.statement) :
      contains([for c in it.condition : "${c.test} ${c.variable} ${one(c.values)}"], "StringEquals aws:SourceAccount 123456789012")
    ])
    error_message = "ECS must take on a role for this account, and for no other that names it"
  }

  assert {
    condition = {
      for name, it in data.aws_iam_policy_document.execution : name => one([for s in it.statement : s.resources if s.sid == "ReadSecrets"])
    } == { service = toset([var.database.password_secret_arn, var.redis.auth_secret_arn]), migration = toset([var.migration.password_secret_arn]) }
    error_message = "each task must be started with its own secrets, and no other's"
  }

  assert {
    condition = alltrue([
      for it in data.aws_iam_policy_document.execution["service"].statement : !contains(it.resources, var.migration.password_secret_arn)
    ])
    error_message = "who starts the service must not be able to read the owner's password"
  }

  assert {
    condition = alltrue([
      for it in concat(data.aws_iam_policy_document.execution["service"].statement, data.aws_iam_policy_document.execution["migration"].statement) :
      (contains(it.resources, "*") == (it.sid == "LogInToRegistry")) && alltrue([for action in it.actions : !strcontains(action, "*")])
    ])
    error_message = "no action may be a wildcard, and every statement must name its resources, except the one that cannot"
  }

  assert {
    condition     = one(local.repositories) == "arn:aws:ecr:eu-west-1:123456789012:repository/causeway/api"
    error_message = "only the image's own repository may be read"
  }
}

run "replicated_secrets_are_decrypted_with_their_key" {
  command = plan

  variables {
    secret_kms_key_arns = ["arn:aws:kms:eu-west-1:123456789012:key/22222222-2222-2222-2222-222222222222"]
  }

  assert {
    condition = alltrue([
      for document in data.aws_iam_policy_document.execution :
      one([for it in document.statement : it.resources if it.sid == "DecryptSecrets"]) == toset(concat([var.kms_key_arn], var.secret_kms_key_arns))
    ])
    error_message = "a task must be able to start with the copy of a secret, which has another key"
  }
}

run "the_service_finds_its_database" {
  command = plan

  variables {
    settings = { TRUSTED_PROXIES = "10.1.0.0/20" }
  }

  assert {
    condition = {
      for it in jsondecode(aws_ecs_task_definition.service.container_definitions)[0].environment : it.name => it.value
      } == {
      PGHOST                = "eu-west-1a-1.causeway.internal,eu-west-1b-1.causeway.internal,eu-central-1a-1.causeway.internal"
      PGPORT                = "5432"
      PGDATABASE            = "causeway"
      PGUSER                = "api_service"
      PGSSLMODE             = "verify-full"
      PGSSLROOTCERT         = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
      DB_POOL_MAX           = "5"
      DB_SHARED_CONNECTIONS = "2"
      MIGRATE               = "off"
      METRICS_LISTEN        = "0.0.0.0:9090"
      PORT                  = "8080"
      SHUTDOWN_DELAY        = "5s"
      SHUTDOWN_TIMEOUT      = "20s"
      LOG_FORMAT            = "json"
      TRUSTED_PROXIES       = "10.1.0.0/20"
    }
    error_message = "the service must verify its servers, and leave the schema alone"
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.migration.container_definitions)[0].command == ["migrate"]
    error_message = "the migration must migrate"
  }
}

run "largest_deployment_fits_the_connection_limit" {
  command = plan

  variables {
    tasks = { min = 2, desired = 2, max = 16 }
  }

  assert {
    condition = 2 * var.tasks.max * (1 + sum([
      for it in jsondecode(aws_ecs_task_definition.service.container_definitions)[0].environment : tonumber(it.value)
      if contains(["DB_POOL_MAX", "DB_SHARED_CONNECTIONS"], it.name)
    ])) <= var.connection_limit
    error_message = "twice the maximum of tasks must fit the servers' limit"
  }
}

run "private_ca_certificate_reaches_both_tasks" {
  command = plan

  variables {
    database = {
      hosts               = ["eu-west-1a-1.causeway.internal"]
      cidrs               = ["10.1.128.0/20"]
      name                = "causeway"
      user                = "api_service"
      password_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/api-service-AbCdEf"
      ca_certificate_pem  = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    }
  }

  assert {
    condition = alltrue([
      for task in [aws_ecs_task_definition.service, aws_ecs_task_definition.migration] :
      contains(jsondecode(task.container_definitions)[0].environment, {
        name  = "PGSSLROOTCERT"
        value = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
      })
    ])
    error_message = "the service and the migration must trust the CA certificate"
  }
}

run "only_the_load_balancer_reaches_a_task" {
  command = plan

  variables {
    redis = { host = "cache.example", port = 6379, auth_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/cache-AbCdEf", security_group_id = "sg-0c" }
  }

  assert {
    condition     = toset([for it in aws_vpc_security_group_ingress_rule.public : it.from_port]) == toset([80, 443])
    error_message = "the load balancer must be open at 443, and at 80 for the redirect"
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.task.from_port == 8080 && aws_vpc_security_group_ingress_rule.task.to_port == 8080 && aws_vpc_security_group_ingress_rule.task.cidr_ipv4 == null
    error_message = "only the load balancer may reach a task"
  }

  assert {
    condition     = toset([for it in aws_vpc_security_group_egress_rule.database : it.cidr_ipv4]) == toset(var.database.cidrs) && alltrue([for it in aws_vpc_security_group_egress_rule.database : it.from_port == 5432 && it.to_port == 5432])
    error_message = "a task must reach PostgreSQL where it is, and nowhere else"
  }

  assert {
    condition     = aws_vpc_security_group_egress_rule.redis[0].referenced_security_group_id == "sg-0c"
    error_message = "beside it a task may reach the cache"
  }
}

run "load_balancer_serves_tls_only" {
  command = plan

  assert {
    condition     = aws_lb_listener.https.protocol == "HTTPS" && startswith(aws_lb_listener.https.ssl_policy, "ELBSecurityPolicy-TLS13-1-2") && aws_lb_listener.http.default_action[0].type == "redirect" && aws_lb_listener.http.default_action[0].redirect[0].protocol == "HTTPS" && aws_lb_listener.https.certificate_arn == var.certificate_arn
    error_message = "requests must come by TLS, and those by HTTP be redirected"
  }

  assert {
    condition     = aws_lb.this.drop_invalid_header_fields && aws_lb.this.enable_deletion_protection && aws_lb.this.subnets == toset(var.public_subnet_ids)
    error_message = "the load balancer must drop headers that are none, refuse to be deleted, and stand in every zone that is named"
  }

  assert {
    condition     = aws_lb_target_group.this["blue"].health_check[0].path == "/readyz" && aws_lb_target_group.this["blue"].health_check[0].matcher == "200" && tonumber(aws_lb_target_group.this["blue"].deregistration_delay) == 25
    error_message = "requests must go where the API is ready, and a target that leaves have as long as its task"
  }

  assert {
    condition     = length(jsondecode(aws_wafv2_web_acl.this[0].rule_json)) == 4 && length(aws_wafv2_web_acl_logging_configuration.this) == 1
    error_message = "the firewall must have its rules, and a log"
  }

  assert {
    condition     = one(aws_wafv2_web_acl_association.this).resource_arn == aws_lb.this.arn && alltrue([for it in slice(jsondecode(aws_wafv2_web_acl.this[0].rule_json), 1, 4) : it.OverrideAction == { None = {} }])
    error_message = "the firewall must stand before the load balancer, and refuse"
  }

  assert {
    condition = (
      jsondecode(aws_wafv2_web_acl.this[0].rule_json)[0].Statement.RateBasedStatement == { Limit = 30000, AggregateKeyType = "IP" } && jsondecode(aws_wafv2_web_acl.this[0].rule_json)[0].Action == { Block = {} } &&
      [for it in jsondecode(aws_wafv2_web_acl.this[0].rule_json) : it.Priority] == [0, 1, 2, 3]
    )
    error_message = "the firewall must first block an address that floods the API"
  }
}

run "standby_region_keeps_its_tasks" {
  command = plan

  variables {
    health_check_path = "/livez"
  }

  assert {
    condition     = aws_lb_target_group.this["blue"].health_check[0].path == "/livez"
    error_message = "tasks of a standby region must not be replaced"
  }
}

run "rolling_deployment_rolls_back_automatically" {
  command = plan

  assert {
    condition     = aws_ecs_service.this.deployment_configuration[0].strategy == "ROLLING" && aws_ecs_service.this.deployment_circuit_breaker[0].rollback && aws_ecs_service.this.alarms[0].rollback
    error_message = "tasks that fail to start, and alarms, must roll a deployment back"
  }

  assert {
    condition     = aws_ecs_service.this.deployment_circuit_breaker[0].enable && aws_ecs_service.this.alarms[0].enable && aws_ecs_service.this.deployment_minimum_healthy_percent == 100 && aws_ecs_service.this.health_check_grace_period_seconds == 60
    error_message = "both must be on, and a deployment take no task away before another is there and has had its time to begin"
  }

  assert {
    condition = (
      "${aws_cloudwatch_metric_alarm.errors.threshold} ${aws_cloudwatch_metric_alarm.errors.datapoints_to_alarm} of ${aws_cloudwatch_metric_alarm.errors.evaluation_periods}" == "5 2 of 3" &&
      alltrue([for it in aws_cloudwatch_metric_alarm.unhealthy : it.threshold == 0 && it.evaluation_periods == 3])
    )
    error_message = "an alarm that comes late rolls nothing back"
  }

  assert {
    condition = toset([
      for metric in concat(
        flatten(aws_cloudwatch_metric_alarm.errors.metric_query[*].metric), [for it in aws_cloudwatch_metric_alarm.unhealthy : it]
      ) : "${metric.namespace} ${jsonencode(metric.dimensions)}"
      ]) == toset([
      "AWS/ApplicationELB ${jsonencode({ LoadBalancer = aws_lb.this.arn_suffix })}",
      "AWS/ApplicationELB ${jsonencode({ LoadBalancer = aws_lb.this.arn_suffix, TargetGroup = aws_lb_target_group.this["blue"].arn_suffix })}",
    ])
    error_message = "an alarm must have the namespace and the dimensions of its metric"
  }

  assert {
    condition     = aws_ecs_service.this.alarms[0].alarm_names == toset(["causeway-test-api-errors", "causeway-test-api-unhealthy-blue"])
    error_message = "the alarms of the deployment must be those of this service"
  }

  assert {
    condition     = length(aws_appautoscaling_policy.requests) == 1 && aws_appautoscaling_policy.cpu.target_tracking_scaling_policy_configuration[0].target_value == var.scaling.cpu_percent && aws_appautoscaling_target.this.min_capacity == 2 && aws_appautoscaling_target.this.max_capacity == 6
    error_message = "the service must scale by processor and by requests"
  }
}

run "a_blue_green_deployment_has_two_target_groups" {
  command = plan

  variables {
    deployment = "blue-green"
    waf        = false
  }

  assert {
    condition     = aws_ecs_service.this.deployment_configuration[0].strategy == "BLUE_GREEN" && length(aws_lb_target_group.this) == 2
    error_message = "blue/green must have a second target group"
  }

  assert {
    condition     = aws_ecs_service.this.deployment_circuit_breaker[0].enable && aws_ecs_service.this.deployment_circuit_breaker[0].rollback && aws_ecs_service.this.alarms[0].rollback
    error_message = "blue/green must be rolled back when tasks do not come up, and by the alarms"
  }

  assert {
    condition     = length(one(aws_ecs_service.this.load_balancer).advanced_configuration) == 1 && length(aws_lb_listener_rule.blue_green) == 1
    error_message = "ECS must be told which rule it moves"
  }

  assert {
    condition = alltrue([
      for it in data.aws_iam_policy_document.deployment[0].statement :
      alltrue([for action in it.actions : !strcontains(action, "*")]) && (contains(it.resources, "*") == (it.sid == "SeeWhereRequestsGo"))
    ])
    error_message = "ECS may move this rule's requests, and no others"
  }

  assert {
    condition     = length(aws_appautoscaling_policy.requests) == 0 && length(aws_wafv2_web_acl.this) == 0
    error_message = "requests of one target group must not scale two, and without `waf` there is none"
  }
}

run "each_task_has_its_own_roles" {
  command = plan

  override_resource {
    target          = aws_iam_role.task
    override_during = plan
    values          = { arn = "arn:aws:iam::123456789012:role/task" }
  }
  override_resource {
    target          = aws_iam_role.execution["service"]
    override_during = plan
    values          = { arn = "arn:aws:iam::123456789012:role/service" }
  }
  override_resource {
    target          = aws_iam_role.execution["migration"]
    override_during = plan
    values          = { arn = "arn:aws:iam::123456789012:role/migration" }
  }

  assert {
    condition = [
      for it in [aws_ecs_task_definition.service, aws_ecs_task_definition.migration] : [for arn in [it.task_role_arn, it.execution_role_arn] : split("/", arn)[1]]
    ] == [["task", "service"], ["task", "migration"]]
    error_message = "what runs must have no rights, and be started by who may read its secrets alone"
  }
}

run "metrics_are_for_monitoring_alone" {
  command = plan

  variables {
    monitoring_cidrs = ["10.1.0.0/16", "10.2.0.0/16"]
  }

  assert {
    condition     = contains(jsondecode(aws_ecs_task_definition.service.container_definitions)[0].environment, { name = "METRICS_LISTEN", value = "0.0.0.0:9090" })
    error_message = "the port to which the load balancer forwards must not serve the metrics"
  }

  assert {
    condition = (
      toset([for it in aws_vpc_security_group_ingress_rule.metrics : it.cidr_ipv4]) == toset(var.monitoring_cidrs) &&
      alltrue([for it in aws_vpc_security_group_ingress_rule.metrics : it.from_port == 9090 && it.to_port == 9090])
    )
    error_message = "the networks of Prometheus must reach the metrics, and at that port only"
  }

  assert {
    condition = (
      one(aws_lb_listener_rule.metrics.condition).path_pattern[0].values == toset(["/metrics", "/metrics/*"]) &&
      one(aws_lb_listener_rule.metrics.action).type == "fixed-response" && one(aws_lb_listener_rule.metrics.action).fixed_response[0].status_code == "404" &&
      aws_lb_listener_rule.metrics.priority == 1
    )
    error_message = "the load balancer must answer /metrics itself, before any rule that forwards"
  }
}

run "metrics_without_monitoring" {
  command = plan

  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.metrics) == 0
    error_message = "without a Prometheus nothing reaches the metrics"
  }
}

run "previous_revisions_stay_active" {
  command = plan

  assert {
    condition     = aws_ecs_task_definition.service.skip_destroy == true && aws_ecs_task_definition.migration.skip_destroy == true
    error_message = "a rollback must find the revision that ran, which Terraform would deregister"
  }
}

run "bake_time_is_that_of_the_service" {
  command = plan

  variables {
    deployment        = "blue-green"
    bake_time_minutes = 15
  }

  assert {
    condition     = tonumber(aws_ecs_service.this.deployment_configuration[0].bake_time_in_minutes) == 15
    error_message = "the service must have the bake time, which `roll` adds to its timeout"
  }

  assert {
    condition     = aws_lb_listener_rule.blue_green[0].priority > aws_lb_listener_rule.metrics.priority
    error_message = "the rule that forwards everything must come last"
  }
}

run "fargate_sizes_of_8_and_16_vcpu" {
  command = plan

  variables {
    cpu    = 16384
    memory = 122880
  }

  assert {
    condition     = tonumber(aws_ecs_task_definition.service.cpu) == 16384
    error_message = "Fargate has 8 and 16 vCPU"
  }
}

run "public_certificates_need_no_ca_certificate" {
  command = plan

  variables {
    database = {
      hosts               = ["a.db.example.com"]
      cidrs               = ["10.1.128.0/20"]
      name                = "causeway"
      user                = "api_service"
      password_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/api-service-AbCdEf"
      public_certificates = true
    }
  }

  assert {
    condition     = !contains([for it in jsondecode(aws_ecs_task_definition.service.container_definitions)[0].environment : it.name], "PGSSLROOTCERT")
    error_message = "the system's CA certificates verify servers with public certificates"
  }
}

run "settings_are_those_of_the_chart" {
  command = plan

  assert {
    condition     = toset(local.further_settings) == toset(jsondecode(file("${path.module}/../../charts/api/values.schema.json")).properties.extraEnv.propertyNames.enum)
    error_message = "a setting that one platform accepts the other must accept: compare local.further_settings with extraEnv in charts/api/values.schema.json"
  }
}

run "firewall_without_a_rate_limit" {
  command = plan

  variables {
    waf_rate_limit = 0
  }

  assert {
    condition     = !strcontains(aws_wafv2_web_acl.this[0].rule_json, "RateBasedStatement") && length(jsondecode(aws_wafv2_web_acl.this[0].rule_json)) == 3
    error_message = "a limit of 0 is none"
  }
}
