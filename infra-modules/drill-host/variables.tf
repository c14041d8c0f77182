variable "name" {
  description = "Project and environment, such as `causeway-production`. It begins every name."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,22}[a-z0-9]$", var.name))
    error_message = "`name` is `${var.name}`: write 2 to 24 lower case letters, digits and hyphens, beginning with a letter."
  }
}

variable "cluster" {
  description = "The cluster whose backups are restored, as `cluster` in backup-agent.toml. It is the first part of every key in the buckets."
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
  description = "The type of the host, such as `m7g.large`. Where it has another architecture than the nodes, it needs PostgreSQL's programs and backup-agent for its own."
  type        = string
}

variable "ami_id" {
  description = "The image of the host, based on Debian 12. Without one it is Debian's newest for the architecture of `instance_type`."
  type        = string
  default     = null

  validation {
    condition     = var.ami_id == null || can(regex("^ami-[0-9a-f]+$", var.ami_id))
    error_message = "`ami_id` is no image: write one such as ami-0123456789abcdef0, or leave it out."
  }
}

variable "scratch_volume" {
  description = "The gp3 volume that the copy is restored to, and thrown away on: size in GiB, operations and MiB in a second."
  type = object({
    size_gib   = number
    iops       = optional(number, 3000)
    throughput = optional(number, 125)
  })

  validation {
    condition     = var.scratch_volume.size_gib >= 20 && var.scratch_volume.size_gib <= 65536
    error_message = "`scratch_volume.size_gib` is ${var.scratch_volume.size_gib}: a data directory needs 20 GiB at least, and gp3 has 65536 at most."
  }

  validation {
    condition     = var.scratch_volume.iops >= 3000 && var.scratch_volume.iops <= min(80000, max(3000, 500 * var.scratch_volume.size_gib))
    error_message = "`scratch_volume.iops` is ${var.scratch_volume.iops}: gp3 has 3000 to 80000, and at most 500 for each GiB."
  }

  validation {
    condition     = var.scratch_volume.throughput >= 125 && var.scratch_volume.throughput <= min(2000, var.scratch_volume.iops / 4)
    error_message = "`scratch_volume.throughput` is ${var.scratch_volume.throughput}: gp3 has 125 to 2000 MiB/s, and at most a quarter of `iops`."
  }
}

variable "kms_key_arn" {
  description = "The key of this region, for the volumes and the secret."
  type        = string
}

variable "backup" {
  description = "The backup buckets of both regions, and the keys that they are encrypted with. The buckets' policies have to name `role_arn` as a reader."
  type = object({
    bucket_arns  = list(string)
    kms_key_arns = list(string)
  })

  validation {
    condition     = length(var.backup.bucket_arns) > 0 && length(var.backup.kms_key_arns) > 0
    error_message = "`backup` names no bucket or no key: there would be nothing to restore."
  }
}

variable "identity_secret_arn" {
  description = "The secret that holds the identity file by which backups are opened."
  type        = string

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:secretsmanager:", var.identity_secret_arn))
    error_message = "`identity_secret_arn` must be the ARN of a secret, as the module secrets gives it."
  }
}

variable "permissions_boundary" {
  description = "The policy that bounds the role of the host."
  type        = string
  default     = null
}
