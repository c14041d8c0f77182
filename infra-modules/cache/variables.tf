variable "name" {
  description = "Prefix of every name: project and environment, such as `causeway-production`."
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
  description = "Subnets of the cache, private or data, one per zone."
  type        = list(string)

  validation {
    condition     = length(distinct(var.subnet_ids)) >= (var.replicas > 0 ? 2 : 1)
    error_message = "`subnet_ids` has no second zone for the replicas: add a subnet, or set `replicas` to 0."
  }
}

variable "client_security_group_ids" {
  description = "Security groups that may connect, by a label of your choice."
  type        = map(string)
}

variable "node_type" {
  description = "The type of every node, such as `cache.t4g.small`."
  type        = string
  default     = "cache.t4g.small"

  validation {
    condition     = can(regex("^cache\\.[a-z][a-z0-9]*\\.[a-z0-9]+$", var.node_type))
    error_message = "`node_type` is `${var.node_type}`: ElastiCache's types are cache., a family and a size, such as cache.t4g.small."
  }
}

variable "replicas" {
  description = "Number of replicas for failover. With 0 the API runs without a cache while the node fails."
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
  description = "Raise it by one to generate a new token. The old one stays valid until the next change, so deploy the API in between."
  type        = number
  default     = 1

  validation {
    condition     = var.auth_version >= 1 && floor(var.auth_version) == var.auth_version
    error_message = "`auth_version` is ${var.auth_version}: write a whole number from 1 on."
  }
}

variable "kms_key_arn" {
  description = "KMS key of this region, for the cache's data and the token."
  type        = string
}
