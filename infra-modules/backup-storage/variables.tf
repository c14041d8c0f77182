variable "name" {
  description = "Prefix of every name: <project>-<environment>."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,23}$", var.name))
    error_message = "name must start with a lower-case letter and have at most 24 lower-case letters, digits and hyphens: write <project>-<environment>, such as causeway-production."
  }
}

variable "bucket" {
  description = "Name of the bucket, unique in all of S3."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "bucket must have 3 to 63 lower-case letters, digits and hyphens, and begin and end with a letter or digit."
  }
}

variable "kms_key_arn" {
  description = "KMS key in the bucket's region."
  type        = string

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:kms:", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of a KMS key, such as the output of the module kms."
  }
}

variable "backup_interval_hours" {
  description = "Hours from one base backup to the next, as in the nodes' timer."
  type        = number
  default     = 24

  validation {
    condition     = var.backup_interval_hours >= 1 && floor(var.backup_interval_hours) == var.backup_interval_hours
    error_message = "backup_interval_hours must be a whole number of hours, 1 or more."
  }
}

variable "retention_days" {
  description = "Days back to which PITR must be possible."
  type        = number
  default     = 30

  validation {
    condition     = var.retention_days >= 1 && floor(var.retention_days) == var.retention_days
    error_message = "retention_days must be a whole number of days, 1 or more."
  }

  validation {
    condition     = var.retention_days <= 400
    error_message = "retention_days is ${var.retention_days}: every base backup and all WAL of that time are kept. Keep at most 400 days, and export what has to be kept longer."
  }

  validation {
    condition     = var.retention_days * 24 >= var.backup_interval_hours
    error_message = "retention_days (${var.retention_days}) is shorter than backup_interval_hours (${var.backup_interval_hours}): a backup could be deleted before the next is made. Keep them longer, or make them more often."
  }
}

variable "object_lock" {
  description = "Days for which versions cannot be deleted. In GOVERNANCE mode s3:BypassGovernanceRetention overrides it; in COMPLIANCE mode nothing does."
  type = object({
    mode = optional(string, "GOVERNANCE")
    days = optional(number, 14)
  })
  default = {}

  validation {
    condition     = contains(["GOVERNANCE", "COMPLIANCE"], var.object_lock.mode)
    error_message = "object_lock.mode must be \"GOVERNANCE\" or \"COMPLIANCE\"."
  }

  validation {
    condition     = var.object_lock.days >= 1 && floor(var.object_lock.days) == var.object_lock.days
    error_message = "object_lock.days must be a whole number of days, 1 or more."
  }

  # It would outlive every mistake in it.
  validation {
    condition     = var.object_lock.mode != "COMPLIANCE" || var.object_lock.days <= 100
    error_message = "object_lock.days is ${var.object_lock.days} in COMPLIANCE mode: no principal, AWS included, can delete a version or close the account's bill for it until then. Lock for at most 100 days, or use GOVERNANCE."
  }

  validation {
    condition     = var.object_lock.days <= var.retention_days
    error_message = "object_lock.days (${var.object_lock.days}) is longer than retention_days (${var.retention_days}): unneeded versions could not be deleted. Lock for less, or keep for longer."
  }

  validation {
    condition     = var.object_lock.days * 24 >= var.backup_interval_hours
    error_message = "object_lock.days (${var.object_lock.days}) is shorter than backup_interval_hours (${var.backup_interval_hours}): at times no backup would be locked. Lock for longer, or back up more often."
  }
}

variable "noncurrent_days" {
  description = "Days for which deleted and replaced versions are kept, during which a mistake can be reverted."
  type        = number
  default     = 14

  validation {
    condition     = var.noncurrent_days >= 1 && floor(var.noncurrent_days) == var.noncurrent_days
    error_message = "noncurrent_days must be a whole number of days, 1 or more."
  }
}

variable "writer_role_arns" {
  description = "Roles of the database nodes of both regions, which write and read, and delete nothing. A trailing `*` matches the rest of their names."
  type        = list(string)

  validation {
    condition     = length(var.writer_role_arns) > 0 && alltrue([for arn in var.writer_role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[^*?]+\\*?$", arn))])
    error_message = "writer_role_arns must contain the ARN of at least one IAM role, with a wildcard at its end only: without a role nothing could be archived, and a wildcard role would let every principal write."
  }
}

variable "reader_role_arns" {
  description = "Further reader roles, for restores and drills."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.reader_role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[^*?]+$", arn))])
    error_message = "reader_role_arns must contain ARNs of IAM roles, without wildcards: name each role that may read backups."
  }
}

variable "expirer" {
  description = "Who may assume the role that deletes expired backups, and whether with MFA only. Sessions of IAM Identity Center do not tell of theirs: there, set `mfa` to false, and require MFA at sign-in. Without it no such role exists."
  type = object({
    principal_arns = list(string)
    mfa            = optional(bool, true)
  })
  default = null

  validation {
    condition     = var.expirer == null || try(length(var.expirer.principal_arns) > 0 && alltrue([for arn in var.expirer.principal_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/[^*?]+$", arn))]), false)
    error_message = "expirer.principal_arns must contain the ARN of at least one IAM role or user, without wildcards: name the operators who may delete backups."
  }

  validation {
    condition     = var.expirer == null || length(setintersection(try(var.expirer.principal_arns, []), concat(var.writer_role_arns, var.reader_role_arns))) == 0
    error_message = "expirer.principal_arns contains a role that writes or reads backups: a compromised host could delete them. Name operators only."
  }
}

variable "permissions_boundary" {
  description = "Permissions boundary of the expirer's role."
  type        = string
  default     = null
}
