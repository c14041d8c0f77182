variable "name" {
  description = "Prefix of every name: <project>-<environment>."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,22}[a-z0-9]$", var.name)) && !strcontains(var.name, "--")
    error_message = "name must start with a lower-case letter and have 2 to 24 lower-case letters, digits and single hyphens: write <project>-<environment>, such as causeway-production."
  }
}

variable "role" {
  description = "\"PRIMARY\" for the preferred region, \"SECONDARY\" for the one used while the first is not ready."
  type        = string

  validation {
    condition     = contains(["PRIMARY", "SECONDARY"], var.role)
    error_message = "role must be \"PRIMARY\" or \"SECONDARY\", as in Route 53's failover routing."
  }
}

variable "private_zone" {
  description = "The private zone, and the VPC of this region to associate. Leave it out where the zone was created with the VPC."
  type = object({
    id     = string
    vpc_id = string
    region = string
  })
  default = null
}

variable "public_zone_id" {
  description = "The public zone."
  type        = string
}

variable "record_name" {
  description = "Full name of the record with failover routing, such as api-auto.example.com. Both regions have the same."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.record_name))
    error_message = "record_name must be a full domain name in lower case without a dot at the end, such as api-auto.example.com."
  }
}

variable "regional_name" {
  description = "Full name of this region's fixed record, such as api-eu-west-1.example.com: the target of the API's record, and of smoke tests. Optional."
  type        = string
  default     = null

  validation {
    condition     = var.regional_name == null || can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.regional_name))
    error_message = "regional_name must be a full domain name in lower case without a dot at the end, such as api-eu-west-1.example.com."
  }
}

variable "api" {
  description = "Load balancer of this region's API. Without one only the VPC is associated."
  type = object({
    dns_name = string
    zone_id  = string
  })
  default = null
}

variable "health_check" {
  description = "Route 53's health check over HTTPS: a path that needs a writable database, the interval, and the failures in a row that count."
  type = object({
    path              = optional(string, "/readyz")
    interval_seconds  = optional(number, 10)
    failure_threshold = optional(number, 3)
  })
  default = {}

  validation {
    condition     = can(regex("^/[^ ]*$", var.health_check.path))
    error_message = "health_check.path must start with a slash and have no space, such as /readyz."
  }

  validation {
    condition     = contains([10, 30], var.health_check.interval_seconds)
    error_message = "health_check.interval_seconds must be 10 or 30: Route 53 supports no other."
  }

  validation {
    condition     = var.health_check.failure_threshold >= 1 && var.health_check.failure_threshold <= 10 && floor(var.health_check.failure_threshold) == var.health_check.failure_threshold
    error_message = "health_check.failure_threshold must be a whole number from 1 to 10."
  }
}

variable "alarm_emails" {
  description = "Addresses that are told when the health check fails. Each confirms once; no alarm without any."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for address in var.alarm_emails : can(regex("^[^@ ]+@[^@ ]+\\.[^@ ]+$", address))])
    error_message = "alarm_emails contains no address: write addresses such as oncall@example.com."
  }
}
