variable "name" {
  description = "Prefix of every name: <project>-<environment>."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,23}$", var.name))
    error_message = "name must begin with a lower-case letter and hold at most 24 lower-case letters, digits and hyphens: write <project>-<environment>, such as causeway-production."
  }
}

variable "role" {
  description = "\"PRIMARY\" for the region that is asked first, \"SECONDARY\" for the one that is asked while the first is not ready."
  type        = string

  validation {
    condition     = contains(["PRIMARY", "SECONDARY"], var.role)
    error_message = "role must be \"PRIMARY\" or \"SECONDARY\", as Route 53's failover routing has them."
  }
}

variable "private_zone" {
  description = "The private zone, and the VPC of this region that is to see it. Leave it out where the zone was made with the VPC."
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
  description = "Full name of a record that stays with this region, such as api-eu-west-1.example.com: what failover-ctl points the API's record at, and a deployment asks. Without it there is none."
  type        = string
  default     = null

  validation {
    condition     = var.regional_name == null || can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.regional_name))
    error_message = "regional_name must be a full domain name in lower case without a dot at the end, such as api-eu-west-1.example.com."
  }
}

variable "api" {
  description = "The load balancer of this region's API. Without one only the VPC is added."
  type = object({
    dns_name = string
    zone_id  = string
  })
  default = null
}

variable "health_check" {
  description = "What Route 53 asks the API over HTTPS: a path that needs a writable database, how often, and how many failures in a row count."
  type = object({
    path              = optional(string, "/readyz")
    interval_seconds  = optional(number, 10)
    failure_threshold = optional(number, 3)
  })
  default = {}

  validation {
    condition     = startswith(var.health_check.path, "/")
    error_message = "health_check.path must begin with a slash, such as /readyz."
  }

  validation {
    condition     = contains([10, 30], var.health_check.interval_seconds)
    error_message = "health_check.interval_seconds must be 10 or 30: Route 53 has no other."
  }

  validation {
    condition     = var.health_check.failure_threshold >= 1 && var.health_check.failure_threshold <= 10
    error_message = "health_check.failure_threshold must be 1 to 10."
  }
}
