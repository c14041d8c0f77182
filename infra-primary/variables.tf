variable "project" {
  description = "First part of every name, and the tag `project`."
  type        = string
  default     = "causeway"
}

variable "environment" {
  description = "Second part of every name, and the tag `environment`."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*[a-z0-9]$", "${var.project}-${var.environment}")) && length("${var.project}-${var.environment}") <= 24
    error_message = "`${var.project}-${var.environment}` begins every name: write project and environment in lower case letters, digits and hyphens, at most 24 together."
  }
}

variable "owner" {
  description = "Responsible team: the tag `owner`."
  type        = string

  validation {
    condition     = trimspace(var.owner) != ""
    error_message = "owner is empty: name the team responsible for this environment."
  }
}

variable "regions" {
  description = "The primary region, the DR region, and a third region for the lease."
  type = object({
    primary = optional(string, "eu-west-1")
    dr      = optional(string, "eu-central-1")
    lease   = optional(string, "eu-north-1")
  })
  default = {}

  validation {
    condition     = var.regions.dr != var.regions.primary
    error_message = "The DR region is the primary region, ${var.regions.primary}: its loss would leave nothing. Choose another for regions.dr."
  }

  validation {
    condition     = !contains([var.regions.primary, var.regions.dr], var.regions.lease)
    error_message = "The lease bucket would be in ${var.regions.lease}, a region that has a database: its loss would take the lease with it. Choose a third region for regions.lease."
  }
}

variable "cidrs" {
  description = "CIDR blocks of both regions' networks. infra-dr reads them from this root."
  type        = object({ primary = string, dr = string })

  # Two networks overlap if they are equal at the shorter of their prefixes.
  validation {
    condition = try(
      length(distinct([
        for cidr in values(var.cidrs) : cidrhost("${split("/", cidr)[0]}/${min([for it in values(var.cidrs) : tonumber(split("/", it)[1])]...)}", 0)
      ])) == 2, true
    )
    error_message = "The networks of the regions overlap: ${var.cidrs.primary} and ${var.cidrs.dr} share addresses, so neither could route to the other. Change one of them."
  }

  validation {
    condition     = alltrue([for cidr in values(var.cidrs) : try(cidrhost(cidr, 0) == split("/", cidr)[0], false)])
    error_message = "cidrs must be two IPv4 networks without host bits, such as 10.1.0.0/16 and 10.2.0.0/16."
  }
}

variable "network" {
  description = "The three zones of this region; NAT gateways and endpoints (`none`, `one`, `two` or `per-zone`; without endpoints the database nodes use NAT); endpoints of services that none of the platform's programs calls; domains that the resolver answers besides AWS's and the private zone; retention of flow logs."
  type = object({
    zones                   = list(string)
    nat                     = optional(string, "none")
    endpoints               = optional(string, "per-zone")
    further_endpoints       = optional(set(string), [])
    allowed_domains         = optional(set(string), [])
    flow_log_retention_days = optional(number, 30)
  })

  validation {
    condition     = length(distinct(var.network.zones)) == 3
    error_message = "network.zones names ${length(distinct(var.network.zones))} zones: name three, so that the loss of one leaves two."
  }

  validation {
    condition     = alltrue([for zone in var.network.zones : startswith(zone, var.regions.primary)])
    error_message = "A zone of network.zones is not in ${var.regions.primary}: name zones of this region, such as ${var.regions.primary}a."
  }
}

variable "database" {
  description = "The cluster, the API's database, and the nodes in this region, by names that start with their zone. With `automatic_failover` they fail over to each other. infra-dr reads the names, `ca_certificate_pem` and the sizes from this root."
  type = object({
    cluster             = optional(string, "main")
    name                = optional(string, "causeway")
    nodes               = map(object({ zone = string, private_ip = optional(string) }))
    automatic_failover  = optional(bool, true)
    instance_type       = string
    ami_id              = optional(string)
    data_volume         = object({ size_gib = number, iops = optional(number, 3000), throughput = optional(number, 125) })
    wal_volume          = object({ size_gib = number, iops = optional(number, 3000), throughput = optional(number, 125) })
    ca_certificate_pem  = optional(string)
    public_certificates = optional(bool, false)
  })

  # Without it clients verify the nodes' certificates against public authorities, and refuse them.
  validation {
    condition     = var.api_platform != "eks" || !var.database.public_certificates
    error_message = "database.public_certificates is true, and the API on EKS verifies its servers with the certificates in its chart's values alone: set public_certificates to false, and ca_certificate_pem to the root certificate of the public CA."
  }

  validation {
    condition     = var.api_platform == "none" || var.database.public_certificates || try(startswith(trimspace(var.database.ca_certificate_pem), "-----BEGIN CERTIFICATE-----"), false)
    error_message = "database.ca_certificate_pem is no PEM certificate: the API could not verify the nodes' certificates, and would reject them. Paste the CA certificate that signs them, from -----BEGIN CERTIFICATE----- on; its private key stays with you. Or set public_certificates to true if a public CA signs them."
  }

  validation {
    condition     = !var.database.automatic_failover || length(var.database.nodes) >= 2
    error_message = "database.nodes has no standby, and automatic_failover is on: name a second node in another zone, or set automatic_failover to false and promote manually."
  }

  validation {
    condition     = !var.database.automatic_failover || length(var.database.nodes) < 2 || length(distinct([for node in var.database.nodes : node.zone])) >= 2
    error_message = "All of database.nodes are in one zone, and automatic_failover is on: its loss would take the standby too. Move a node to another zone."
  }

  # A node renews the lease through the endpoints, or without these through NAT: of its own zone, or the loss of one zone
  # would stop the nodes of another.
  validation {
    condition = !var.database.automatic_failover || length(setsubtract(
      [for node in var.database.nodes : node.zone],
      slice(var.network.zones, 0, min(length(var.network.zones), lookup({ none = 0, one = 1, two = 2, per-zone = 3 }, var.network.endpoints == "none" ? var.network.nat : var.network.endpoints, 3))),
    )) == 0
    error_message = "A node of database.nodes has its ${var.network.endpoints == "none" ? "NAT gateway" : "endpoints"} in another zone, whose loss would cut it off from the lease, and automatic_failover is on. Set network.${var.network.endpoints == "none" ? "nat" : "endpoints"} to `two`, with the nodes in the first two of network.zones, or to `per-zone`; or set automatic_failover to false."
  }

  validation {
    condition     = alltrue([for name, node in var.database.nodes : contains(var.network.zones, node.zone) && startswith(name, node.zone)])
    error_message = "A node of database.nodes is in no zone of network.zones, or its name does not start with its zone: name it ${var.network.zones[0]}-1, so that names are unique across regions."
  }
}

variable "pooler" {
  description = "Whether the nodes of both regions have PgBouncer, for clients other than the API: Ansible's group `pooler`. Its port is then open to the clients of PostgreSQL, and to those of `pooler_clients`."
  type        = bool
  default     = false
}

variable "pooler_clients" {
  description = "Clients of this region's pooler besides the API, by a label of your choice: each a `security_group_id` of this region's network, or the `cidr` of a private network outside of it, a /20 or smaller. A network that is not the other region's needs a route from and to the data subnets."
  type        = map(object({ security_group_id = optional(string), cidr = optional(string) }))
  default     = {}

  # Clients in this network have a security group, and another host of their subnet is no client. Two networks overlap if they
  # are equal at the shorter of their prefixes.
  validation {
    condition = alltrue([
      for cidr in compact(values(var.pooler_clients)[*].cidr) : try(
        length(distinct([for it in [cidr, var.cidrs.primary] : cidrhost("${split("/", it)[0]}/${min([for other in [cidr, var.cidrs.primary] : tonumber(split("/", other)[1])]...)}", 0)])) == 2, true
      )
    ])
    error_message = "pooler_clients contains a part of this region's own network, ${var.cidrs.primary}: write the clients' security_group_id instead."
  }
}

variable "monitoring" {
  description = "Host of Prometheus and Alertmanager in this region, and whether the API's canary runs there, which reaches the API as a client on the internet does. Without it, monitor from elsewhere: set `monitoring_cidrs`."
  type = object({
    instance_type   = string
    ami_id          = optional(string)
    volume_size_gib = optional(number, 30)
    canary          = optional(bool, false)
  })
  default = null

  validation {
    condition     = !try(var.monitoring.canary, false) || var.network.nat != "none"
    error_message = "monitoring.canary is true, and network.nat is `none`: the API's load balancer has public addresses, which the canary reaches through a NAT gateway. Set network.nat to `one`, or run the canary outside of AWS."
  }

  validation {
    condition     = !try(var.monitoring.canary, false) || var.api_platform != "none"
    error_message = "monitoring.canary is true, and api_platform is `none`: there is no API to try. Set canary to false, or choose a platform."
  }
}

variable "monitoring_cidrs" {
  description = "Networks that may reach the agent's port and the exporters of the database hosts."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.monitoring_cidrs : can(regex("^(10\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.|192\\.168\\.).*/(1[6-9]|2[0-9]|3[0-2])$", cidr)) && can(cidrhost(cidr, 0))])
    error_message = "monitoring_cidrs contains a public network: hosts are reached over Systems Manager and from private networks only. Name a /16 or smaller within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16."
  }
}

variable "operator_role_arns" {
  description = "Roles of operators who run failover-ctl outside of the nodes. They write the journal of an operation."
  type        = list(string)
  default     = []
}

variable "backup" {
  description = "Interval of base backups, retention (how far back PITR reaches), object lock; the bucket size that raises an alarm, by default half of the data volume for each kept backup; who may delete expired backups, with MFA; whether S3 replicates the buckets besides backup-agent; and further reader roles. Both regions' buckets have the same, but for the readers."
  type = object({
    interval_hours   = optional(number, 24)
    retention_days   = optional(number, 30)
    object_lock      = optional(object({ mode = optional(string, "GOVERNANCE"), days = optional(number, 14) }), {})
    noncurrent_days  = optional(number, 14)
    size_alarm_gib   = optional(number)
    expirer          = optional(object({ principal_arns = list(string), mfa = optional(bool, true) }))
    replication      = optional(bool, false)
    reader_role_arns = optional(list(string), [])
  })
  default = {}

  validation {
    condition     = var.backup.retention_days * 24 >= var.backup.interval_hours
    error_message = "backup.retention_days (${var.backup.retention_days}) is shorter than backup.interval_hours (${var.backup.interval_hours}): a backup would expire before the next is made. Keep them longer, or make them more often."
  }
}

variable "dns" {
  description = "The public zone and whether to create it, and the private zone of the database; the TTL of the records that failover-ctl moves, and Route 53's health check of the API, for both regions."
  type = object({
    public_zone        = string
    create_public_zone = optional(bool, false)
    private_zone       = optional(string, "causeway.internal")
    ttl_secs           = optional(number, 5)
    health_check       = optional(object({ path = optional(string, "/readyz"), interval_seconds = optional(number, 10), failure_threshold = optional(number, 3) }), {})
  })
}

variable "secrets_generation" {
  description = "Raise it by one to generate new values for all secrets."
  type        = number
  default     = 1
}

variable "secrets_recovery_days" {
  description = "Days for which a deleted secret can be restored, during which its name is taken: 7 to 30, or 0, so that a test environment can be created again under the same names. The same in infra-dr."
  type        = number
  default     = 30

  validation {
    condition     = var.secrets_recovery_days == 0 || var.secrets_recovery_days >= 7 && var.secrets_recovery_days <= 30
    error_message = "secrets_recovery_days is ${var.secrets_recovery_days}: Secrets Manager keeps deleted secrets for 7 to 30 days. Write one of these, or 0 to delete at once."
  }
}

variable "api_platform" {
  description = "Platform of the API: `ecs`, `eks` or `none`."
  type        = string
  default     = "ecs"

  validation {
    condition     = contains(["ecs", "eks", "none"], var.api_platform)
    error_message = "api_platform is `${var.api_platform}`: write ecs, eks or none."
  }

  validation {
    condition     = var.api_platform != "ecs" || var.api != null
    error_message = "api_platform is `ecs`, and `api` is not set: set its image and tasks, or set api_platform to none."
  }

  validation {
    condition     = var.api_platform != "eks" || var.eks != null
    error_message = "api_platform is `eks`, and `eks` is not set: set its version and nodes, or set api_platform to none."
  }
}

variable "api" {
  description = "The API on ECS: the pinned image; size and number of tasks; `deployment` by `rolling` or `blue-green`, and how long the latter keeps the old tasks (`bake_time_minutes`, 10); targets of `scaling`; seconds of `drain` and `stop_timeout`; whether a WAF protects it, its rule groups, and the requests of one address in five minutes (`waf_rate_limit`, 30000); `access_logs_bucket` of the load balancer. What is left out has the default of the module api-ecs. `connection_limit` is the number of PostgreSQL connections for these tasks: 72 of 97, and 24 for the standby tasks of the other region."
  type = object({
    image               = string
    architecture        = optional(string, "X86_64")
    cpu                 = optional(number, 512)
    memory              = optional(number, 1024)
    tasks               = object({ min = number, max = number, desired = number })
    deployment          = optional(string, "rolling")
    bake_time_minutes   = optional(number)
    scaling             = optional(object({ cpu_percent = optional(number), requests_per_target = optional(number) }))
    drain               = optional(object({ delay = optional(number), timeout = optional(number) }))
    stop_timeout        = optional(number)
    tls_policy          = optional(string)
    waf                 = optional(bool, true)
    waf_rule_groups     = optional(list(object({ name = string, count = optional(list(string), []) })))
    waf_rate_limit      = optional(number)
    access_logs_bucket  = optional(string)
    connection_limit    = optional(number, 72)
    settings            = optional(map(string), {})
    deletion_protection = optional(bool, true)
  })
  default = null

  # Its tasks could not start while the other region is lost.
  validation {
    condition     = try(!strcontains(var.api.image, ".dkr.ecr.") || strcontains(var.api.image, ".dkr.ecr.${var.regions.primary}."), true)
    error_message = "api.image is in the registry of another region: name the image in the registry of ${var.regions.primary}, which replicates it to ${var.regions.dr}."
  }
}

variable "eks" {
  description = "The API on EKS: the cluster and its nodes; the roles that administer or view it; the networks that reach the Kubernetes API; settings and WAF of the API; the load balancer of the chart's Ingress, once it exists."
  type = object({
    kubernetes_version   = string
    support_type         = optional(string, "STANDARD")
    node                 = object({ instance_types = list(string), min = number, max = number, desired = number, disk_gib = optional(number, 30), ami_type = optional(string, "AL2023_x86_64_STANDARD") })
    admin_role_arns      = list(string)
    viewer_role_arns     = optional(list(string), [])
    public_access_cidrs  = optional(list(string), [])
    private_access_cidrs = optional(list(string), [])
    settings             = optional(map(string), {})
    waf_acl_arn          = optional(string, "")
    load_balancer        = optional(object({ dns_name = string, zone_id = string }))
    deletion_protection  = optional(bool, true)
  })
  default = null
}

variable "cache" {
  description = "The API's cache. Optional: responses are the same without it. Raise `auth_version` by one for a new token, and deploy the API."
  type = object({
    node_type      = optional(string, "cache.t4g.small")
    replicas       = optional(number, 1)
    engine_version = optional(string, "8.0")
    auth_version   = optional(number, 1)
  })
  default = null

  validation {
    condition     = var.cache == null || var.api_platform != "none"
    error_message = "cache is set, and api_platform is `none`: nothing would use it. Remove one of the two."
  }
}

variable "alarms" {
  description = "Addresses for alarms, and the monthly budget of the account."
  type        = object({ emails = list(string), monthly_usd = optional(number) })
}

variable "log_retention_days" {
  description = "Retention of the API's logs, in days."
  type        = number
  default     = 30
}

variable "permissions_boundary" {
  description = "Permissions boundary of every role of both roots: the environment's of `workload_boundary_arns` of infra-bootstrap. The apply role can create none without it."
  type        = string

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:iam::${data.aws_caller_identity.this.account_id}:policy/.+$", var.permissions_boundary))
    error_message = "permissions_boundary is `${coalesce(var.permissions_boundary, "null")}`, and no policy of the account ${data.aws_caller_identity.this.account_id}: write the environment's of the output workload_boundary_arns of infra-bootstrap in this account."
  }
}
