variable "cluster" {
  description = "Name of the cluster, part of every key in the buckets."
  type        = string
}

variable "primary_region" {
  description = "Region whose nodes fail over automatically."
  type        = string
}

variable "nodes" {
  description = "Nodes of both regions by name, as in the module postgres's output, with their region."
  type = map(object({
    region         = string
    zone           = string
    address        = string
    private_ip     = string
    instance_id    = string
    data_volume_id = string
    wal_volume_id  = string
  }))

  validation {
    condition     = anytrue([for node in var.nodes : node.region == var.primary_region])
    error_message = "No node is in primary_region (${var.primary_region}): name at least one there, or no node takes the lease."
  }
}

variable "ports" {
  description = "Ports of PostgreSQL and the agents."
  type        = object({ postgres = optional(number, 5432), agent = optional(number, 8009) })
  default     = {}
}

variable "pooler" {
  description = "Whether the nodes have PgBouncer: the inventory's group `pooler`."
  type        = bool
  default     = false
}

variable "lease" {
  description = "Bucket of the lease, in a region without a node."
  type        = object({ bucket = string, region = string })

  validation {
    condition     = !contains([for node in var.nodes : node.region], var.lease.region)
    error_message = "The lease bucket is in ${var.lease.region}, which has a node: choose a third region, so that the loss of one never takes the lease too."
  }
}

variable "backup_buckets" {
  description = "Backup buckets, the nearest first."
  type        = list(object({ name = string, region = string }))

  validation {
    condition     = length(var.backup_buckets) > 0
    error_message = "backup_buckets is empty: name at least the bucket of this region."
  }
}

variable "dns" {
  description = "Private zone and its record that follows the primary; and the API's record, its zone, and its target in each region."
  type = object({
    zone_id  = string
    writer   = string
    ttl_secs = optional(number, 5)
    api      = optional(object({ name = string, zone_id = string, targets = map(string) }))
  })

  validation {
    condition     = var.dns.api == null || try(toset(keys(var.dns.api.targets)) == toset([for node in var.nodes : node.region]), false)
    error_message = "dns.api.targets must have one name per region with a node: add the missing region, or leave dns.api out."
  }
}
