variable "name" {
  description = "Prefix of every name: <project>-<environment>."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,23}$", var.name))
    error_message = "name must begin with a lower-case letter and hold at most 24 lower-case letters, digits and hyphens: write <project>-<environment>, such as causeway-production."
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
  description = "Whether the public zone is made here, or is there already and only looked up."
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
    error_message = "private_zone_name is also public_zone_name: inside the VPCs the private zone would hide every public name. Give it a name of its own, such as internal.${var.public_zone_name}."
  }
}

variable "vpc_ids" {
  description = "The VPCs that see the private zone, by label, and their regions. \"primary\" is the one it is made with; a region that is applied later adds its own by the module dns-region."
  type = map(object({
    id     = string
    region = string
  }))

  validation {
    condition     = contains(keys(var.vpc_ids), "primary")
    error_message = "vpc_ids must have the key \"primary\": Route 53 makes a private zone only with a VPC."
  }
}

variable "writer" {
  description = "Where the writer record points at first: the address of the node that has the database, as failover-ctl.toml has it."
  type = object({
    address = string
  })

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z0-9]+$", var.writer.address))
    error_message = "writer.address must be an IPv4 address or a full host name in lower case, as `address` of the node is in failover-ctl.toml."
  }
}

variable "readers" {
  description = "IPv4 addresses that the reader record has at first; none makes no such record."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for address in var.readers : can(cidrhost("${address}/32", 0))])
    error_message = "readers must be IPv4 addresses, such as 10.1.144.11: a record holds several addresses, but not several names."
  }
}

variable "ttl_secs" {
  description = "For how long resolvers keep the records that move: `ttl-secs` in failover-ctl.toml."
  type        = number
  default     = 5

  validation {
    condition     = var.ttl_secs >= 1 && var.ttl_secs <= 60
    error_message = "ttl_secs must be 1 to 60: clients look for the old primary that much longer."
  }
}

variable "api" {
  description = "Load balancers of the API, \"primary\" and, where it is applied together with it, \"secondary\"."
  type = map(object({
    dns_name = string
    zone_id  = string
  }))
  default = {}

  validation {
    condition     = length(setsubtract(keys(var.api), ["primary", "secondary"])) == 0
    error_message = "api may have the keys \"primary\" and \"secondary\" only: Route 53's failover routing has these two."
  }

  validation {
    condition     = length(var.api) == 0 || contains(keys(var.api), "primary")
    error_message = "api has a \"secondary\" and no \"primary\": add the load balancer that is asked first."
  }
}
