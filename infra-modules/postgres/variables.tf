variable "name" {
  description = "Prefix of every name: project and environment, such as `causeway-production`."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,22}[a-z0-9]$", var.name))
    error_message = "`name` is `${var.name}`: write 2 to 24 lower case letters, digits and hyphens, beginning with a letter."
  }
}

variable "cluster" {
  description = "Name of the cluster, as `cluster` in failover-ctl.toml and backup-agent.toml: part of every key in the buckets."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9_-]*$", var.cluster))
    error_message = "`cluster` is `${var.cluster}`: write lower case letters, digits, hyphens and underscores only."
  }
}

variable "vpc_id" {
  description = "The VPC of the nodes."
  type        = string
}

variable "subnet_ids" {
  description = "Data subnets by zone."
  type        = map(string)
}

variable "subnet_cidrs" {
  description = "CIDR blocks of these subnets by zone, with which a `private_ip` is compared; not compared without them."
  type        = map(string)
  default     = {}
}

variable "nodes" {
  description = "Nodes of this region, by name. The name is the first label of the node's address and the suffix of its role's name, so it must be unique across regions."
  type = map(object({
    zone       = string
    private_ip = optional(string)
  }))

  validation {
    condition     = length(var.nodes) > 0
    error_message = "`nodes` is empty: name at least one node."
  }

  validation {
    condition     = alltrue([for name in keys(var.nodes) : can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", name))])
    error_message = "A name in `nodes` is no DNS label: write lower case letters, digits and hyphens, at most 63."
  }

  validation {
    condition     = alltrue([for name in keys(var.nodes) : length("${var.name}-postgres-${name}") <= 64])
    error_message = "`${var.name}-postgres-<node>` is the name of each node's role, and IAM allows 64 characters: names in `nodes` can have ${54 - length(var.name)}."
  }

  validation {
    condition     = alltrue([for node in var.nodes : contains(keys(var.subnet_ids), node.zone)])
    error_message = "A node is in a zone without a subnet: use one of ${join(", ", keys(var.subnet_ids))}, or add the zone to `subnet_ids`."
  }

  validation {
    condition     = alltrue([for node in var.nodes : node.private_ip == null || can(cidrhost("${node.private_ip}/32", 0))])
    error_message = "A `private_ip` is no IPv4 address: write one such as 10.1.1.11, or leave it out."
  }

  validation {
    condition     = length(distinct([for node in var.nodes : node.private_ip if node.private_ip != null])) == length([for node in var.nodes : node.private_ip if node.private_ip != null])
    error_message = "Two nodes have the same `private_ip`: write another, or leave it out."
  }

  validation {
    condition     = alltrue([for zone, nodes in { for name, node in var.nodes : node.zone => name... } : length(nodes) <= 7])
    error_message = "More than seven of `nodes` are in one zone, and a spread placement group has at most seven there: put some into another zone."
  }
}

variable "automatic_failover" {
  description = "Whether the nodes of this region fail over automatically. This needs nodes in two zones."
  type        = bool
  default     = true

  validation {
    condition     = !var.automatic_failover || length(distinct([for node in var.nodes : node.zone])) >= 2
    error_message = "There is no standby to fail over to: name nodes in two zones at least, or set `automatic_failover` to false."
  }
}

variable "instance_type" {
  description = "Instance type of the nodes, such as `m7g.large`, on the Nitro hypervisor with EBS."
  type        = string
}

variable "ami_id" {
  description = "AMI of the nodes, based on Debian 12. Default: Debian's newest for the architecture of `instance_type`."
  type        = string
  default     = null

  validation {
    condition     = var.ami_id == null || can(regex("^ami-[0-9a-f]+$", var.ami_id))
    error_message = "`ami_id` is no image: write one such as ami-0123456789abcdef0, or leave it out."
  }
}

variable "data_volume" {
  description = "gp3 volume of the data directory: size in GiB, IOPS, and throughput in MiB/s."
  type = object({
    size_gib   = number
    iops       = optional(number, 3000)
    throughput = optional(number, 125)
  })

  validation {
    condition     = var.data_volume.size_gib >= 20 && var.data_volume.size_gib <= 65536
    error_message = "`data_volume.size_gib` is ${var.data_volume.size_gib}: a data directory needs at least 20 GiB, and gp3 has at most 65536."
  }

  validation {
    condition     = var.data_volume.iops >= 3000 && var.data_volume.iops <= min(80000, max(3000, 500 * var.data_volume.size_gib))
    error_message = "`data_volume.iops` is ${var.data_volume.iops}: gp3 has 3000 to 80000, and at most 500 per GiB."
  }

  validation {
    condition     = var.data_volume.throughput >= 125 && var.data_volume.throughput <= min(2000, var.data_volume.iops / 4)
    error_message = "`data_volume.throughput` is ${var.data_volume.throughput}: gp3 has 125 to 2000 MiB/s, and at most a quarter of `iops`."
  }
}

variable "wal_volume" {
  description = "gp3 volume of the WAL: size in GiB, IOPS, and throughput in MiB/s. Once Ansible has mounted it at `pg_wal`, it holds unarchived WAL while no bucket is reachable; until then it is attached and empty."
  type = object({
    size_gib   = number
    iops       = optional(number, 3000)
    throughput = optional(number, 125)
  })

  validation {
    condition     = var.wal_volume.size_gib >= 10 && var.wal_volume.size_gib <= 65536
    error_message = "`wal_volume.size_gib` is ${var.wal_volume.size_gib}: the WAL needs at least 10 GiB, and gp3 has at most 65536."
  }

  validation {
    condition     = var.wal_volume.iops >= 3000 && var.wal_volume.iops <= min(80000, max(3000, 500 * var.wal_volume.size_gib))
    error_message = "`wal_volume.iops` is ${var.wal_volume.iops}: gp3 has 3000 to 80000, and at most 500 per GiB."
  }

  validation {
    condition     = var.wal_volume.throughput >= 125 && var.wal_volume.throughput <= min(2000, var.wal_volume.iops / 4)
    error_message = "`wal_volume.throughput` is ${var.wal_volume.throughput}: gp3 has 125 to 2000 MiB/s, and at most a quarter of `iops`."
  }
}

variable "aws_access" {
  description = "How nodes reach AWS: the security group of the interface endpoints, and S3's prefix list. `null` in a network without endpoints: every address is then allowed at port 443."
  type = object({
    endpoint_security_group_id = string
    s3_prefix_list_id          = string
  })
}

variable "kms_key_arn" {
  description = "KMS key of this region, for the volumes and the secrets."
  type        = string
}

variable "secret_kms_key_arns" {
  description = "Further KMS keys of secrets: replicas from another region have their own."
  type        = list(string)
  default     = []
}

variable "api_security_group_ids" {
  description = "Security groups that may connect to PostgreSQL besides the nodes, and to the pooler, by a label of your choice."
  type        = map(string)
  default     = {}
}

variable "peer_cidrs" {
  description = "CIDR blocks of the other region's data subnets, whose nodes replicate with these."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.peer_cidrs : can(regex("^(10\\.|192\\.168\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.).*/(1[6-9]|2[0-9]|3[0-2])$", cidr)) && can(cidrhost(cidr, 0))])
    error_message = "`peer_cidrs` contains a network that is public or larger than a /16: name the data subnets of the other region."
  }
}

variable "monitoring_cidrs" {
  description = "Networks of Prometheus, which scrapes the agent and the exporters."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.monitoring_cidrs : can(regex("^(10\\.|192\\.168\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.).*/(1[6-9]|2[0-9]|3[0-2])$", cidr)) && can(cidrhost(cidr, 0))])
    error_message = "`monitoring_cidrs` contains a network that is public or larger than a /16: the agent must not be reachable from a public address."
  }
}

variable "postgres_port" {
  description = "The port of PostgreSQL."
  type        = number
  default     = 5432
}

variable "agent_port" {
  description = "The port of `failover-ctl agent`."
  type        = number
  default     = 8009
}

variable "exporter_ports" {
  description = "Ports of the exporters that Prometheus scrapes, by name."
  type        = map(number)
  default     = { node = 9100, postgres = 9187 }
}

variable "pooler" {
  description = "Whether the nodes have PgBouncer. Its port is then open to the clients of PostgreSQL, and its exporter's to Prometheus."
  type        = bool
  default     = false
}

variable "pooler_clients" {
  description = "Clients of the pooler besides `api_security_group_ids`, by a label of your choice: each a security group of this VPC, or a private network outside of it. They reach the pooler alone."
  type        = map(object({ security_group_id = optional(string), cidr = optional(string) }))
  default     = {}

  validation {
    condition     = length(var.pooler_clients) == 0 || var.pooler
    error_message = "`pooler_clients` names clients, and `pooler` is false: set it to true, in infra-primary for both regions, or name no client."
  }

  validation {
    condition     = alltrue([for client in var.pooler_clients : (client.security_group_id == null) != (client.cidr == null)])
    error_message = "A client of `pooler_clients` has both a security group and a network, or neither: write one of the two."
  }

  validation {
    condition     = alltrue([for client in var.pooler_clients : client.security_group_id == null || can(regex("^sg-[0-9a-f]+$", client.security_group_id))])
    error_message = "A security group of `pooler_clients` is none: write its id, such as sg-0123456789abcdef0."
  }

  validation {
    condition     = alltrue([for client in var.pooler_clients : client.cidr == null || can(regex("^(10\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.|192\\.168\\.).*/(2[0-9]|3[0-2])$", client.cidr)) && can(cidrhost(client.cidr, 0))])
    error_message = "`pooler_clients` contains a network that is public or larger than a /20: name the clients' own subnet, such as 10.9.16.0/24."
  }
}

variable "pooler_port" {
  description = "The port of the pooler."
  type        = number
  default     = 6432
}

variable "pooler_exporter_port" {
  description = "The port of the pooler's exporter."
  type        = number
  default     = 9127
}

variable "private_zone_id" {
  description = "Private zone of the nodes' names."
  type        = string
}

variable "private_zone_name" {
  description = "Name of that zone. `<node>.<private_zone_name>` is the name in the node's certificate."
  type        = string
}

variable "lease" {
  description = "The bucket of the lease."
  type        = object({ bucket_arn = string })
}

variable "backup" {
  description = "Backup buckets of both regions, and their keys."
  type = object({
    bucket_arns  = list(string)
    kms_key_arns = list(string)
  })

  validation {
    condition     = length(var.backup.bucket_arns) > 0 && length(var.backup.kms_key_arns) > 0
    error_message = "`backup` names no bucket or no key: a cluster without an archive cannot be restored."
  }
}

variable "secret_arns" {
  description = "The secrets that the nodes may read."
  type        = list(string)
  default     = []
}

variable "dns" {
  description = "Zone and names of the records that failover-ctl moves; their epoch records are derived. Without it the nodes may change no record."
  type = object({
    zone_id      = string
    record_names = list(string)
  })
  default = null
}

variable "api_dns" {
  description = "The same for the API's record, where it is in another zone."
  type = object({
    zone_id      = string
    record_names = list(string)
  })
  default = null
}

variable "alarm_topic_arn" {
  description = "SNS topic for recoveries of nodes; no notification without it."
  type        = string
  default     = null
}

variable "permissions_boundary" {
  description = "Permissions boundary of the nodes' roles."
  type        = string
  default     = null
}
