variable "cluster" {
  description = "The cluster: a part of every key in the buckets."
  type        = string
}

variable "primary_region" {
  description = "The region whose nodes take over by themselves."
  type        = string
}

variable "nodes" {
  description = "Every node of both regions, by name, as the module postgres gives them, and its region."
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
    error_message = "No node is in primary_region (${var.primary_region}): name at least one there, or nobody takes the lease."
  }
}

variable "ports" {
  description = "Where PostgreSQL and the agents listen."
  type        = object({ postgres = optional(number, 5432), agent = optional(number, 8009) })
  default     = {}
}

variable "lease" {
  description = "The bucket of the lease, in a region that has no node."
  type        = object({ bucket = string, region = string })

  validation {
    condition     = !contains([for node in var.nodes : node.region], var.lease.region)
    error_message = "The lease bucket is in ${var.lease.region}, where a node is: choose a third region, so that the loss of one never takes the lease too."
  }
}

variable "backup_buckets" {
  description = "The buckets that backups go to, the nearest first."
  type        = list(object({ name = string, region = string }))

  validation {
    condition     = length(var.backup_buckets) > 0
    error_message = "backup_buckets is empty: name at least the bucket of this region."
  }
}

variable "dns" {
  description = "The private zone and the record in it that follows the primary; and the API's record, its zone, and where it points in each region."
  type = object({
    zone_id = string
    writer  = string
    api     = optional(object({ name = string, zone_id = string, targets = map(string) }))
  })

  validation {
    condition     = var.dns.api == null || try(toset(keys(var.dns.api.targets)) == toset([for node in var.nodes : node.region]), false)
    error_message = "dns.api.targets has not one name for each region that has a node: add the missing region, or leave dns.api out."
  }
}
