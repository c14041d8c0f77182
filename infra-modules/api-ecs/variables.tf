variable "name" {
  description = "Prefix of every name: project and environment, such as `causeway-production`."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,22}[a-z0-9]$", var.name)) && !strcontains(var.name, "--")
    error_message = "`name` is `${var.name}`: write 2 to 24 lower case letters, digits and single hyphens, beginning with a letter."
  }

  validation {
    condition     = !startswith(var.name, "internal-")
    error_message = "`name` is `${var.name}`: ELB refuses names that begin with internal-. Begin with another word."
  }
}

variable "vpc_id" {
  description = "VPC of the load balancer and the tasks."
  type        = string
}

variable "public_subnet_ids" {
  description = "The subnets of the load balancer, one in each zone."
  type        = list(string)

  validation {
    condition     = length(distinct(var.public_subnet_ids)) >= 2
    error_message = "The load balancer would be in one zone: name public subnets in two zones at least."
  }
}

variable "private_subnet_ids" {
  description = "The subnets of the tasks, one in each zone."
  type        = list(string)

  validation {
    condition     = length(distinct(var.private_subnet_ids)) >= 2
    error_message = "The tasks would be in one zone: name private subnets in two zones at least."
  }
}

variable "image" {
  description = "Image of the first task. The pipeline replaces it at each deployment, which Terraform ignores."
  type        = string

  validation {
    condition     = can(regex("(@sha256:[0-9a-f]{64}|:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})$", var.image)) && !endswith(var.image, ":latest")
    error_message = "`image` is `${var.image}`: pin it by a digest or the tag of a version, which is not `latest`."
  }
}

variable "architecture" {
  description = "Architecture of the image: `X86_64` or `ARM64`."
  type        = string
  default     = "X86_64"

  validation {
    condition     = contains(["X86_64", "ARM64"], var.architecture)
    error_message = "`architecture` is `${var.architecture}`: write X86_64 or ARM64."
  }
}

variable "cpu" {
  description = "CPU of a task, in 1024ths of a vCPU."
  type        = number
  default     = 512

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096, 8192, 16384], var.cpu)
    error_message = "`cpu` is ${var.cpu}: Fargate has 256, 512, 1024, 2048, 4096, 8192 and 16384."
  }
}

variable "memory" {
  description = "Memory of a task, in MiB."
  type        = number
  default     = 1024

  validation {
    condition = contains(lookup({
      256   = [512, 1024, 2048]
      512   = range(1024, 4097, 1024)
      1024  = range(2048, 8193, 1024)
      2048  = range(4096, 16385, 1024)
      4096  = range(8192, 30721, 1024)
      8192  = range(16384, 61441, 4096)
      16384 = range(32768, 122881, 8192)
    }, tostring(var.cpu), [var.memory]), var.memory)
    error_message = "`memory` is ${var.memory}: with `cpu` ${var.cpu} Fargate has ${var.cpu == 16384 ? "steps of 8 GiB from 32 to 120" : var.cpu == 8192 ? "steps of 4 GiB from 16 to 60" : "whole GiB from ${max(1, var.cpu / 512)} to ${var.cpu == 256 ? 2 : min(30, var.cpu / 128)}"}, and 512 MiB with `cpu` 256."
  }
}

variable "tasks" {
  description = "Minimum, maximum and initial number of tasks. Autoscaling changes it afterwards."
  type = object({
    min     = number
    max     = number
    desired = number
  })

  validation {
    condition     = var.tasks.min >= 1 && var.tasks.min <= var.tasks.desired && var.tasks.desired <= var.tasks.max
    error_message = "`tasks` is min ${var.tasks.min}, desired ${var.tasks.desired}, max ${var.tasks.max}: write them in this order, from 1 on."
  }

  validation {
    condition     = alltrue([for count in values(var.tasks) : floor(count) == count])
    error_message = "`tasks` is min ${var.tasks.min}, desired ${var.tasks.desired}, max ${var.tasks.max}: write whole numbers."
  }
}

variable "certificate_arn" {
  description = "ACM certificate of the load balancer, in this region."
  type        = string

  validation {
    condition     = startswith(var.certificate_arn, "arn:aws:acm:")
    error_message = "`certificate_arn` is no certificate of ACM: the load balancer serves HTTPS only."
  }
}

variable "tls_policy" {
  description = "TLS policy of the load balancer."
  type        = string
  default     = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  nullable    = false

  validation {
    condition     = can(regex("^ELBSecurityPolicy-TLS13-1-[23]-", var.tls_policy))
    error_message = "`tls_policy` is `${var.tls_policy}`: name a policy with TLS 1.2 as minimum and TLS 1.3, ELBSecurityPolicy-TLS13-1-2-… or ELBSecurityPolicy-TLS13-1-3-…."
  }
}

variable "database" {
  description = <<-EOT
    The database. The tasks find the primary among all hosts. `cidrs` are the hosts' networks in both regions.
    `ca_certificate_pem` has the CA certificates of the servers. Without it, set `public_certificates`: a public CA then
    has signed the servers' certificates.
  EOT
  type = object({
    hosts               = list(string)
    cidrs               = list(string)
    port                = optional(number, 5432)
    name                = string
    user                = string
    password_secret_arn = string
    ca_certificate_pem  = optional(string)
    public_certificates = optional(bool, false)
  })

  validation {
    condition     = length(var.database.hosts) > 0 && length(var.database.cidrs) > 0
    error_message = "`database` has no host or no network: name every node and their data subnets."
  }

  validation {
    condition     = alltrue([for cidr in var.database.cidrs : can(regex("^(10\\.|192\\.168\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.).*/(1[6-9]|2[0-9]|3[0-2])$", cidr)) && can(cidrhost(cidr, 0))])
    error_message = "`database.cidrs` contains a network that is public or larger than a /16: name the data subnets."
  }

  validation {
    condition     = var.database.ca_certificate_pem == null || startswith(coalesce(var.database.ca_certificate_pem, "-"), "-----BEGIN CERTIFICATE-----")
    error_message = "`database.ca_certificate_pem` is no PEM certificate, which starts with -----BEGIN CERTIFICATE-----."
  }

  validation {
    condition     = !strcontains(coalesce(var.database.ca_certificate_pem, "-"), "PRIVATE KEY")
    error_message = "`database.ca_certificate_pem` contains a private key: write the certificates alone, and replace the key, which is in your shell's history or in a file of variables."
  }

  validation {
    condition     = (var.database.ca_certificate_pem == null) == var.database.public_certificates
    error_message = "The API verifies its servers, so `database` needs one of the two: the certificate of the CA that signs theirs in `ca_certificate_pem`, or `public_certificates` = true if a public CA does."
  }

  validation {
    condition     = !var.database.public_certificates || alltrue([for host in var.database.hosts : !endswith(host, ".internal")])
    error_message = "`database.public_certificates` is true, and no public CA signs a name that ends with .internal: write `ca_certificate_pem`, or use a private zone below a domain of yours."
  }
}

variable "migration" {
  description = "Database role that owns the schema. Only the migration task can read its password."
  type = object({
    user                = string
    password_secret_arn = string
  })

  validation {
    condition     = var.migration.user != var.database.user && var.migration.password_secret_arn != var.database.password_secret_arn
    error_message = "`migration` and `database` are one role: the service must not own the schema."
  }
}

variable "redis" {
  description = "The cache, reached over TLS. Without it, every read goes to the database."
  type = object({
    host              = string
    port              = number
    auth_secret_arn   = string
    security_group_id = string
  })
  default = null
}

variable "monitoring_cidrs" {
  description = "Networks of Prometheus, which reach the tasks' metrics at port 9090."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.monitoring_cidrs : can(regex("^(10\\.|192\\.168\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.).*/(1[6-9]|2[0-9]|3[0-2])$", cidr)) && can(cidrhost(cidr, 0))])
    error_message = "`monitoring_cidrs` contains a network that is public or larger than a /16: metrics are for private networks only."
  }
}

variable "aws_access" {
  description = <<-EOT
    How tasks reach AWS: the security group of the interface endpoints, and S3's prefix list. `null` in a network without
    endpoints: the tasks may then reach every address at port 443, through NAT.
  EOT
  type = object({
    endpoint_security_group_id = string
    s3_prefix_list_id          = string
  })
}

variable "settings" {
  description = "Further environment variables of the API, such as `TRUSTED_PROXIES`. Not for secrets."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.settings) : !can(regex("(PASSWORD|PASS|DATABASE_URL|REDIS_URL|HEADERS)(_FILE)?$", name))])
    error_message = "`settings` contains a secret, readable in the task definition: use Secrets Manager."
  }

  validation {
    condition     = alltrue([for name in keys(var.settings) : !can(regex("^(PG|DB_(HOST|PORT|USER|NAME|SSLMODE)$|POSTGRES_|PSQL_|APP_DB_|REDIS_(HOST|PORT|TLS|USER)$|PORT$|LISTEN$|METRICS_LISTEN$|MIGRATE$|SHUTDOWN_)", name))])
    error_message = "`settings` contains a variable that this module sets: use `database`, `redis`, `monitoring_cidrs` or `drain`."
  }

  validation {
    condition     = alltrue([for name in keys(var.settings) : !contains(["DB_POOL_MAX", "DB_SHARED_CONNECTIONS"], name)])
    error_message = "`settings` contains a number of connections, which follows from `connection_limit` and `tasks.max`: change those."
  }

  validation {
    condition     = length([for name in keys(var.settings) : name if !contains(local.further_settings, name) && !can(regex(local.settings_of_others, name))]) == 0
    error_message = "`settings` contains ${join(", ", setsubtract(keys(var.settings), local.further_settings))}, which the API does not have: docs/reference/settings-api.md lists its settings."
  }
}

variable "connection_limit" {
  description = "PostgreSQL connections for these tasks: `max_connections` (100) less `superuser_reserved_connections` (3). Divided among twice `tasks.max`, the maximum during a deployment."
  type        = number
  default     = 97

  validation {
    condition     = floor(var.connection_limit) == var.connection_limit
    error_message = "`connection_limit` is ${var.connection_limit}: write a whole number."
  }

  validation {
    condition     = var.connection_limit >= 3 * 2 * var.tasks.max
    error_message = "`connection_limit` is ${var.connection_limit}, and ${2 * var.tasks.max} tasks of a deployment need 3 each: lower `tasks.max`, or raise `max_connections` and this."
  }
}

variable "health_check_path" {
  description = <<-EOT
    Path of the load balancer's health check: `/readyz` (readiness) or `/livez` (liveness). ECS replaces targets that
    fail, so a standby region, whose tasks reach no primary, uses `/livez`.
  EOT
  type        = string
  default     = "/readyz"

  validation {
    condition     = contains(["/readyz", "/livez"], var.health_check_path)
    error_message = "`health_check_path` is `${var.health_check_path}`: write /readyz, or /livez in a standby region."
  }
}

variable "drain" {
  description = "Seconds for which a task serves new requests after SIGTERM, and then waits for requests in flight."
  type = object({
    delay   = optional(number, 5)
    timeout = optional(number, 20)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for secs in values(var.drain) : secs >= 0 && floor(secs) == secs])
    error_message = "`drain` is negative or not whole: write 0 or more seconds."
  }
}

variable "stop_timeout" {
  description = "Seconds from SIGTERM to SIGKILL."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.stop_timeout > var.drain.delay + var.drain.timeout && var.stop_timeout <= 120 && floor(var.stop_timeout) == var.stop_timeout
    error_message = "`stop_timeout` is ${var.stop_timeout}: SIGKILL would end requests in flight. Write whole seconds, more than `drain` takes (${var.drain.delay + var.drain.timeout} s), and at most Fargate's 120 s."
  }
}

variable "deployment" {
  description = "`rolling`, or `blue-green`: all new tasks beside the old ones, then all traffic at once."
  type        = string
  default     = "rolling"

  validation {
    condition     = contains(["rolling", "blue-green"], var.deployment)
    error_message = "`deployment` is `${var.deployment}`: write rolling or blue-green."
  }
}

variable "bake_time_minutes" {
  description = "Minutes for which the old tasks are kept for a rollback after a blue/green deployment."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.bake_time_minutes >= 0 && var.bake_time_minutes <= 29 && floor(var.bake_time_minutes) == var.bake_time_minutes
    error_message = "`bake_time_minutes` is ${var.bake_time_minutes}: write a whole number from 0 to 29. A longer one does not fit into the pipeline's time for a release."
  }
}

variable "scaling" {
  description = "Targets of autoscaling: CPU in percent, and, unless deployments are blue/green, requests per task and minute."
  type = object({
    cpu_percent         = optional(number, 60)
    requests_per_target = optional(number, 6000)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.scaling.cpu_percent >= 10 && var.scaling.cpu_percent <= 90 && var.scaling.requests_per_target >= 1
    error_message = "`scaling` is out of range: write 10 to 90 percent, and 1 or more requests."
  }
}

variable "waf" {
  description = "Whether a WAF protects the load balancer."
  type        = bool
  default     = true
}

variable "waf_rule_groups" {
  description = "AWS managed rule groups, in order. Rules in `count` only count matches."
  type = list(object({
    name  = string
    count = optional(list(string), [])
  }))
  default = [
    { name = "AWSManagedRulesAmazonIpReputationList" },
    { name = "AWSManagedRulesKnownBadInputsRuleSet" },
    # The API accepts markup as data, and limits bodies itself.
    { name = "AWSManagedRulesCommonRuleSet", count = ["CrossSiteScripting_BODY", "SizeRestrictions_BODY"] },
  ]
  nullable = false

  validation {
    condition     = !var.waf || length(var.waf_rule_groups) > 0 && length(distinct(var.waf_rule_groups[*].name)) == length(var.waf_rule_groups)
    error_message = "`waf_rule_groups` is empty or names a group twice: name each group once, or set `waf` to false."
  }
}

variable "waf_rate_limit" {
  description = "Requests of one address in five minutes, above which the WAF blocks it; 0 is no limit."
  type        = number
  default     = 30000
  nullable    = false

  validation {
    condition     = var.waf_rate_limit == 0 || var.waf_rate_limit >= 10 && var.waf_rate_limit <= 2000000000 && floor(var.waf_rate_limit) == var.waf_rate_limit
    error_message = "`waf_rate_limit` is ${var.waf_rate_limit}: write a whole number from 10 to 2000000000, or 0 for no limit."
  }
}

variable "kms_key_arn" {
  description = "KMS key of this region, for the logs and the secrets."
  type        = string
}

variable "secret_kms_key_arns" {
  description = "Further KMS keys of secrets: replicas from another region have their own."
  type        = list(string)
  default     = []
}

variable "log_retention_days" {
  description = "Retention of logs in days, as CloudWatch allows."
  type        = number
  default     = 365

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "`log_retention_days` is ${var.log_retention_days}: CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731 or more days."
  }
}

variable "access_logs_bucket" {
  description = "Bucket of the load balancer's access logs, in this region and with S3's own encryption; none without it."
  type        = string
  default     = null

  validation {
    condition     = var.access_logs_bucket == null || can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.access_logs_bucket))
    error_message = "`access_logs_bucket` is `${coalesce(var.access_logs_bucket, "-")}`: write the name of a bucket, not its ARN or address."
  }
}

variable "deletion_protection" {
  description = "Deletion protection of the load balancer."
  type        = bool
  default     = true
}

variable "alarm_topic_arn" {
  description = "SNS topic of the rollback alarms; no notification without it."
  type        = string
  default     = null
}

variable "permissions_boundary" {
  description = "Permissions boundary of every role."
  type        = string
  default     = null
}
