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
    condition     = alltrue([for zone in var.network.zones : startswith(zone, var.regions.dr)])
    error_message = "A zone of network.zones is not in ${var.regions.dr}: name zones of this region, such as ${var.regions.dr}a."
  }
}

variable "database" {
  description = "The nodes in this region, by names that start with their zone. They follow the primary, and are promoted by command. Instance type and volumes are those of infra-primary, unless set here."
  type = object({
    nodes         = map(object({ zone = string, private_ip = optional(string) }))
    instance_type = optional(string)
    ami_id        = optional(string)
    data_volume   = optional(object({ size_gib = number, iops = optional(number, 3000), throughput = optional(number, 125) }))
    wal_volume    = optional(object({ size_gib = number, iops = optional(number, 3000), throughput = optional(number, 125) }))
  })

  validation {
    condition     = length(var.database.nodes) >= 1
    error_message = "database.nodes is empty: there would be no node to promote when ${var.regions.primary} is lost. Name a node."
  }

  validation {
    condition     = alltrue([for name, node in var.database.nodes : contains(var.network.zones, node.zone) && startswith(name, node.zone)])
    error_message = "A node of database.nodes is in no zone of network.zones, or its name does not start with its zone: name it ${var.network.zones[0]}-1, so that names are unique across regions."
  }

  # A standby has what the primary has: a smaller volume would fill, and stop it.
  validation {
    condition     = var.database.data_volume == null || try(var.database.data_volume.size_gib >= local.primary.database.data_volume.size_gib, false)
    error_message = "database.data_volume has ${try(var.database.data_volume.size_gib, 0)} GiB, and infra-primary's ${local.primary.database.data_volume.size_gib}: a standby would fill it and stop. Make it at least as large, or leave it out to have the same."
  }

  validation {
    condition     = var.database.wal_volume == null || try(var.database.wal_volume.size_gib >= local.primary.database.wal_volume.size_gib, false)
    error_message = "database.wal_volume has ${try(var.database.wal_volume.size_gib, 0)} GiB, and infra-primary's ${local.primary.database.wal_volume.size_gib}: a standby would fill it and stop. Make it at least as large, or leave it out to have the same."
  }
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
        length(distinct([for it in [cidr, local.primary.cidrs.dr] : cidrhost("${split("/", it)[0]}/${min([for other in [cidr, local.primary.cidrs.dr] : tonumber(split("/", other)[1])]...)}", 0)])) == 2, true
      )
    ])
    error_message = "pooler_clients contains a part of this region's own network, ${local.primary.cidrs.dr}: write the clients' security_group_id instead."
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

variable "backup" {
  description = "Further reader roles of this region's backup bucket. The rest is as in infra-primary."
  type = object({
    reader_role_arns = optional(list(string), [])
  })
  default = {}
}

variable "restore_drill" {
  description = "The host that restores the newest backup each night, and the volume for the copy. Without it, no drill runs."
  type = object({
    instance_type  = string
    ami_id         = optional(string)
    scratch_volume = object({ size_gib = number, iops = optional(number, 3000), throughput = optional(number, 125) })
  })
  default = null

  validation {
    condition     = var.restore_drill == null || try(var.restore_drill.scratch_volume.size_gib >= local.data_volume.size_gib, false)
    error_message = "restore_drill.scratch_volume has ${try(var.restore_drill.scratch_volume.size_gib, 0)} GiB and the data volume ${local.data_volume.size_gib}: a whole copy has to fit, so make it at least as large."
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
  description = "The API on ECS: the image, by default infra-primary's version from this region's registry; the size of a task; the number of standby tasks (`tasks`) and of `active_tasks`; `deployment` by `rolling` or `blue-green`, and how long the latter keeps the old tasks (`bake_time_minutes`, 10); targets of `scaling`; seconds of `drain` and `stop_timeout`; whether a WAF protects it, its rule groups, and the requests of one address in five minutes (`waf_rate_limit`, 30000); `access_logs_bucket` of the load balancer. What is left out has the default of the module api-ecs. `connection_limit` is the number of PostgreSQL connections for active tasks, `waiting_connection_limit` for standby tasks."
  type = object({
    image                    = optional(string)
    architecture             = optional(string, "X86_64")
    cpu                      = optional(number, 512)
    memory                   = optional(number, 1024)
    tasks                    = object({ min = number, max = number, desired = number })
    active_tasks             = object({ min = number, max = number, desired = number })
    deployment               = optional(string, "rolling")
    bake_time_minutes        = optional(number)
    scaling                  = optional(object({ cpu_percent = optional(number), requests_per_target = optional(number) }))
    drain                    = optional(object({ delay = optional(number), timeout = optional(number) }))
    stop_timeout             = optional(number)
    tls_policy               = optional(string)
    waf                      = optional(bool, true)
    waf_rule_groups          = optional(list(object({ name = string, count = optional(list(string), []) })))
    waf_rate_limit           = optional(number)
    access_logs_bucket       = optional(string)
    connection_limit         = optional(number, 72)
    waiting_connection_limit = optional(number, 24)
    settings                 = optional(map(string), {})
    deletion_protection      = optional(bool, true)
  })
  default = null

  # On the day on which it is needed, the other region's registry does not answer.
  validation {
    condition     = try(!strcontains(var.api.image, ".dkr.ecr.") || strcontains(var.api.image, ".dkr.ecr.${var.regions.dr}."), true)
    error_message = "api.image is in the registry of another region, which tasks of ${var.regions.dr} need while that region is lost: leave it out, for infra-primary's version from the registry of ${var.regions.dr}."
  }
}

variable "active" {
  description = "Whether this region serves: the API then has `api.active_tasks`. Set it when the region is promoted, and reset it when the primary region is."
  type        = bool
  default     = false
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
