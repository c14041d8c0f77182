# Task definitions of the service and of the migration: one image, with different database roles.

locals {
  # A deployment doubles the tasks. One connection of each monitors the primary; a fifth of the others is for short reads.
  connections_of_a_task = floor(var.connection_limit / (2 * var.tasks.max))
  shared_connections    = min(4, ceil((local.connections_of_a_task - 1) / 5))
  pool = {
    DB_SHARED_CONNECTIONS = tostring(local.shared_connections)
    DB_POOL_MAX           = tostring(min(16, local.connections_of_a_task - 1 - local.shared_connections))
  }

  # What `settings` may contain, as in the chart's extraEnv.
  further_settings = [
    "REQUEST_TIMEOUT", "MAX_INFLIGHT", "MAX_CONNECTIONS", "RATE_LIMIT_RPS", "TRUSTED_PROXIES",
    "DB_CONNECT_TIMEOUT", "DB_STATEMENT_TIMEOUT", "DB_STARTUP_TIMEOUT", "READY_DB_GRACE",
    "REDIS_DB", "REDIS_CONNECT_TIMEOUT", "REDIS_TIMEOUT", "CACHE_TTL",
    "COMPANY_NAME", "API_SURFACES", "VALIDATION_STATUS", "LIST_MAX", "MEMBERS_KEYS",
    "HELLO_TZ", "HELLO_LEAP_DAY", "HELLO_CASE_INSENSITIVE",
    "LOG_LEVEL", "RUST_LOG", "LOG_FORMAT",
  ]
  # Refused by other rules: secrets, and what this module sets.
  settings_of_others = "(PASSWORD|PASS|DATABASE_URL|REDIS_URL|HEADERS)(_FILE)?$|^(PG|DB_(HOST|PORT|USER|NAME|SSLMODE|POOL_MAX|SHARED_CONNECTIONS)$|POSTGRES_|PSQL_|APP_DB_|REDIS_(HOST|PORT|TLS|USER)$|PORT$|LISTEN$|METRICS_LISTEN$|MIGRATE$|SHUTDOWN_)"

  settings = {
    service = merge(local.database, local.cache, local.pool, var.settings, {
      PGUSER           = var.database.user
      PORT             = tostring(local.port)
      MIGRATE          = "off"
      SHUTDOWN_DELAY   = "${var.drain.delay}s"
      SHUTDOWN_TIMEOUT = "${var.drain.timeout}s"
      METRICS_LISTEN   = "0.0.0.0:${local.metrics_port}"
    })
    migration = merge(local.database, { PGUSER = var.migration.user })
  }
  secrets = {
    service = merge(
      { PGPASSWORD = var.database.password_secret_arn },
      var.redis == null ? {} : { REDIS_PASSWORD = var.redis.auth_secret_arn },
    )
    migration = { PGPASSWORD = var.migration.password_secret_arn }
  }

  database = merge({
    PGHOST     = join(",", var.database.hosts)
    PGPORT     = tostring(var.database.port)
    PGDATABASE = var.database.name
    PGSSLMODE  = "verify-full"
    LOG_FORMAT = "json"
  }, var.database.ca_certificate_pem == null ? {} : { PGSSLROOTCERT = trimspace(var.database.ca_certificate_pem) })

  cache = var.redis == null ? {} : {
    REDIS_HOST = var.redis.host
    REDIS_PORT = tostring(var.redis.port)
    REDIS_TLS  = "true"
  }

  # Common to each container.
  confined = {
    essential              = true
    readonlyRootFilesystem = true
    linuxParameters        = { capabilities = { drop = ["ALL"] } }
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group  = aws_cloudwatch_log_group.this.name
        awslogs-region = local.region
        # Logging must not block the API.
        mode                  = "non-blocking"
        max-buffer-size       = "4m"
        awslogs-stream-prefix = local.container
      }
    }
  }

  api = {
    for task in ["service", "migration"] : task => merge(local.confined, {
      name        = local.container
      image       = var.image
      environment = [for name, value in local.settings[task] : { name = name, value = value }]
      secrets     = [for name, arn in local.secrets[task] : { name = name, valueFrom = arn }]
      stopTimeout = var.stop_timeout
    })
  }
}

resource "aws_ecs_task_definition" "service" {
  family                   = "${var.name}-api"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  execution_role_arn       = aws_iam_role.execution["service"].arn
  task_role_arn            = aws_iam_role.task.arn
  # A previous revision may be the one that runs, or the one that a rollback needs: ECS starts no task of an inactive one.
  skip_destroy = true

  runtime_platform {
    cpu_architecture        = var.architecture
    operating_system_family = "LINUX"
  }

  container_definitions = jsonencode([merge(local.api.service, {
    portMappings = [
      { name = "http", containerPort = local.port, protocol = "tcp", appProtocol = "http" },
      { name = "metrics", containerPort = local.metrics_port, protocol = "tcp", appProtocol = "http" },
    ]
    # One per connection up to the maximum of MAX_CONNECTIONS, and some for files.
    ulimits = [{ name = "nofile", softLimit = 65535, hardLimit = 65535 }]
    # Liveness; the load balancer checks readiness.
    healthCheck = {
      command     = ["CMD", "/usr/local/bin/api", "healthcheck"]
      interval    = 10
      timeout     = 5
      retries     = 3
      startPeriod = 10
    }
  })])

  lifecycle {
    precondition {
      condition     = var.aws_access == null || local.ecr != null
      error_message = "`image` is `${var.image}`: the tasks reach ECR's endpoints only. Copy the image to a repository of ECR in ${local.region}, or set `aws_access` to null and reach the registry through NAT."
    }

    precondition {
      condition     = try(local.ecr[1], local.region) == local.region
      error_message = "`image` is in ${try(local.ecr[1], "")}, and the service in ${local.region}: no task could start without that region. Name the repository's copy of ${local.region}."
    }

    precondition {
      condition     = alltrue([for arn in concat(values(local.secrets.service), values(local.secrets.migration)) : strcontains(arn, ":secretsmanager:${local.region}:")])
      error_message = "A secret of `database`, `migration` or `redis` is not in ${local.region}: name the secret or replica of this region."
    }
  }
}

# Run by the pipeline before it updates the service; exits with 0 when the schema is up to date.
resource "aws_ecs_task_definition" "migration" {
  family                   = "${var.name}-api-migration"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 512
  execution_role_arn       = aws_iam_role.execution["migration"].arn
  task_role_arn            = aws_iam_role.task.arn
  skip_destroy             = true

  runtime_platform {
    cpu_architecture        = var.architecture
    operating_system_family = "LINUX"
  }

  container_definitions = jsonencode([merge(local.api.migration, { command = ["migrate"] })])
}
