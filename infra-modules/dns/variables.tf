variable "name" {
  description = "Prefix of every name: <project>-<environment>."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,22}[a-z0-9]$", var.name)) && !strcontains(var.name, "--")
    error_message = "name must start with a lower-case letter and have 2 to 24 lower-case letters, digits and single hyphens: write <project>-<environment>, such as causeway-production."
  }
}

variable "public_zone_name" {
  description = "Name of the public zone, such as example.com."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.public_zone_name))
    error_message = "public_zone_name must be a domain name in lower case without a dot at the end, such as example.com."
  }
}

variable "create_public_zone" {
  description = "Whether to create the public zone or look up an existing one."
  type        = bool
  default     = true
}

variable "private_zone_name" {
  description = "Name of the private zone, such as causeway.internal."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.private_zone_name))
    error_message = "private_zone_name must be a domain name in lower case without a dot at the end, such as causeway.internal."
  }

  validation {
    condition     = var.private_zone_name != var.public_zone_name
    error_message = "private_zone_name is also public_zone_name: inside the VPCs the private zone would hide every public name. Choose another name, such as internal.${var.public_zone_name}."
  }
}

variable "vpc_ids" {
  description = "VPCs associated with the private zone, by label, and their regions. The zone is created with \"primary\"; a region applied later adds its own with the module dns-region."
  type = map(object({
    id     = string
    region = string
  }))

  validation {
    condition     = contains(keys(var.vpc_ids), "primary")
    error_message = "vpc_ids must have the key \"primary\": Route 53 creates a private zone only with a VPC."
  }
}

variable "writer" {
  description = "Initial target of the writer record: the address of the node that has the database, as in failover-ctl.toml."
  type = object({
    address = string
  })

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z0-9]+$", var.writer.address))
    error_message = "writer.address must be an IPv4 address or a full host name in lower case, like the node's `address` in failover-ctl.toml."
  }
}

variable "readers" {
  description = "Initial IPv4 addresses of the reader record; no record without any."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for address in var.readers : can(cidrhost("${address}/32", 0))])
    error_message = "readers must be IPv4 addresses, such as 10.1.144.11: a record can have several addresses, but not several names."
  }
}

variable "ttl_secs" {
  description = "TTL of the moved records: `ttl-secs` in failover-ctl.toml."
  type        = number
  default     = 5

  validation {
    condition     = var.ttl_secs >= 1 && var.ttl_secs <= 60 && floor(var.ttl_secs) == var.ttl_secs
    error_message = "ttl_secs must be a whole number from 1 to 60: clients keep the old primary's address for that long."
  }
}

variable "api" {
  description = "Load balancers of the API: \"primary\" and, if applied together, \"secondary\"."
  type = map(object({
    dns_name = string
    zone_id  = string
  }))
  default = {}

  validation {
    condition     = length(setsubtract(keys(var.api), ["primary", "secondary"])) == 0
    error_message = "api may have the keys \"primary\" and \"secondary\" only: failover routing has these two."
  }

  validation {
    condition     = length(var.api) == 0 || contains(keys(var.api), "primary")
    error_message = "api has a \"secondary\" and no \"primary\": add the primary region's load balancer."
  }
}

variable "health_check" {
  description = "Route 53's health check of the API: path, interval in seconds, and failures in a row that count."
  type = object({
    path              = optional(string, "/readyz")
    interval_seconds  = optional(number, 10)
    failure_threshold = optional(number, 3)
  })
  default = {}
}

variable "alarm_emails" {
  description = "Addresses that are told when the primary region's API is unhealthy from the internet. Each confirms once, apart from other alarms."
  type        = list(string)
  default     = []
}
