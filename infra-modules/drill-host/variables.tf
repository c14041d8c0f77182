variable "name" {
  description = "Prefix of every name: project and environment, such as `causeway-production`."
  type        = string
}

variable "cluster" {
  description = "Cluster whose backups are restored, as `cluster` in backup-agent.toml: the first part of every key in the buckets."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9_-]*$", var.cluster))
    error_message = "`cluster` is `${var.cluster}`: write lower case letters, digits, hyphens and underscores only."
  }
}

variable "vpc_id" {
  description = "The VPC of the host."
  type        = string
}

variable "subnet" {
  description = "The data subnet of the host, and its zone."
  type        = object({ id = string, zone = string })
}

variable "instance_type" {
  description = "Instance type of the host, such as `m7g.large`. With another architecture than the nodes', it needs its own PostgreSQL and backup-agent."
  type        = string
}

variable "ami_id" {
  description = "AMI of the host, based on Debian 12. Default: Debian's newest for the architecture of `instance_type`."
  type        = string
  default     = null
}

variable "scratch_volume" {
  description = "gp3 scratch volume of the copy: size in GiB, IOPS, and throughput in MiB/s."
  type = object({
    size_gib   = number
    iops       = optional(number, 3000)
    throughput = optional(number, 125)
  })

  validation {
    condition     = var.scratch_volume.size_gib >= 20 && var.scratch_volume.size_gib <= 65536
    error_message = "`scratch_volume.size_gib` is ${var.scratch_volume.size_gib}: a data directory needs at least 20 GiB, and gp3 has at most 65536."
  }

  validation {
    condition     = var.scratch_volume.iops >= 3000 && var.scratch_volume.iops <= min(80000, max(3000, 500 * var.scratch_volume.size_gib))
    error_message = "`scratch_volume.iops` is ${var.scratch_volume.iops}: gp3 has 3000 to 80000, and at most 500 per GiB."
  }

  validation {
    condition     = var.scratch_volume.throughput >= 125 && var.scratch_volume.throughput <= min(2000, var.scratch_volume.iops / 4)
    error_message = "`scratch_volume.throughput` is ${var.scratch_volume.throughput}: gp3 has 125 to 2000 MiB/s, and at most a quarter of `iops`."
  }
}

variable "aws_access" {
  description = "How the host reaches AWS: the security group of the interface endpoints, and S3's prefix list. `null` in a network without endpoints: every address is then allowed at port 443."
  type = object({
    endpoint_security_group_id = string
    s3_prefix_list_id          = string
  })
}

variable "monitoring_cidrs" {
  description = "Networks of Prometheus, which scrapes the time of the last verified restore."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.monitoring_cidrs : can(regex("^(10\\.|192\\.168\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.).*/(1[6-9]|2[0-9]|3[0-2])$", cidr)) && can(cidrhost(cidr, 0))])
    error_message = "`monitoring_cidrs` contains a network that is public or larger than a /16: metrics are for private networks only."
  }
}

variable "node_exporter_port" {
  description = "Port of the node exporter. Ansible's `node_exporter_port` must be equal."
  type        = number
  default     = 9100
}

variable "kms_key_arn" {
  description = "KMS key of this region, for the volumes and the secret."
  type        = string
}

variable "backup" {
  description = "Backup buckets of both regions, and their keys. The buckets' policies must name `role_arn` as a reader."
  type = object({
    bucket_arns  = list(string)
    kms_key_arns = list(string)
  })

  validation {
    condition     = length(var.backup.bucket_arns) > 0 && length(var.backup.kms_key_arns) > 0
    error_message = "`backup` names no bucket or no key: nothing could be restored."
  }
}

variable "identity_secret_arn" {
  description = "Secret with the identity file that decrypts backups."
  type        = string

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:secretsmanager:", var.identity_secret_arn))
    error_message = "`identity_secret_arn` must be the ARN of a secret, such as an output of the module secrets."
  }
}

variable "permissions_boundary" {
  description = "Permissions boundary of the host's role."
  type        = string
  default     = null
}
