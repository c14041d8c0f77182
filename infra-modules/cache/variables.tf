variable "name" {
  description = "Project and environment, such as `causeway-production`. It begins every name."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,22}[a-z0-9]$", var.name)) && !strcontains(var.name, "--")
    error_message = "`name` is `${var.name}`: write 2 to 24 lower case letters, digits and single hyphens, beginning with a letter."
  }
}

variable "vpc_id" {
  description = "The VPC of the cache."
  type        = string
}

variable "subnet_ids" {
  description = "The subnets of the cache, private or data ones, one in each zone."
  type        = list(string)

  validation {
    condition     = length(distinct(var.subnet_ids)) >= (var.replicas > 0 ? 2 : 1)
    error_message = "`subnet_ids` has no second zone for the replicas: name one subnet more, or set `replicas` to 0."
  }
}

variable "client_security_group_ids" {
  description = "The groups that may connect, by a label of your own."
  type        = map(string)
}

variable "node_type" {
  description = "The type of every node, such as `cache.t4g.small`."
  type        = string
  default     = "cache.t4g.small"

  validation {
    condition     = startswith(var.node_type, "cache.")
    error_message = "`node_type` is `${var.node_type}`: ElastiCache's types begin with cache., such as cache.t4g.small."
  }
}

variable "replicas" {
  description = "How many replicas stand by to take over. With none the API goes without its cache when the node fails."
  type        = number
  default     = 1

  validation {
    condition     = var.replicas >= 0 && var.replicas <= 5 && floor(var.replicas) == var.replicas
    error_message = "`replicas` is ${var.replicas}: write a whole number from 0 to 5."
  }
}

variable "engine_version" {
  description = "The version of Valkey, such as `8.0`."
  type        = string
  default     = "8.0"

  validation {
    condition     = can(regex("^[0-9]+\\.[0-9]+$", var.engine_version)) && try(tonumber(var.engine_version) >= 7.2, false)
    error_message = "`engine_version` is `${var.engine_version}`: write a version of Valkey from 7.2 on, such as 8.0."
  }
}

variable "auth_version" {
  description = "Raise it to make a new token. The old one holds until the next change, so deploy the API in between."
  type        = number
  default     = 1

  validation {
    condition     = var.auth_version >= 1 && floor(var.auth_version) == var.auth_version
    error_message = "`auth_version` is ${var.auth_version}: write a whole number from 1 on."
  }
}

variable "kms_key_arn" {
  description = "The key of this region, for what the cache stores and for the token."
  type        = string
}
