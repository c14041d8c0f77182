variable "name" {
  description = "Prefix of every name: <project>-<environment>."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,23}$", var.name))
    error_message = "name must start with a lower-case letter and have at most 24 lower-case letters, digits and hyphens: write <project>-<environment>, such as causeway-production."
  }
}

variable "kms_key_arn" {
  description = "KMS key of this region that encrypts the secrets."
  type        = string

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:kms:", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of a KMS key, such as the output of the module kms."
  }
}

variable "replica" {
  description = "The other region, which has a replica of every secret under its own key. Without it the secrets are lost with this region."
  type = object({
    region      = string
    kms_key_arn = string
  })
  default = null

  validation {
    condition     = var.replica == null || can(regex("^arn:aws[a-z-]*:kms:${var.replica.region}:", var.replica.kms_key_arn))
    error_message = "replica.kms_key_arn must be the ARN of a KMS key in replica.region: a replica is encrypted with a key of its own region."
  }
}

variable "secrets" {
  description = "The secrets by name. `kind` is \"password\" (letters and digits), \"key\" (for signing; letters and digits as well), or \"given\" (an operator or another program writes the value)."
  type = map(object({
    description = string
    kind        = optional(string, "password")
    length      = optional(number, 40)
  }))

  validation {
    condition     = alltrue([for name in keys(var.secrets) : can(regex("^[a-z][a-z0-9-]*$", name))])
    error_message = "The names of secrets must start with a lower-case letter and consist of lower-case letters, digits and hyphens, such as replicator."
  }

  validation {
    condition     = alltrue([for secret in var.secrets : contains(["password", "key", "given"], secret.kind)])
    error_message = "kind of each secret must be \"password\", \"key\" or \"given\"."
  }

  # failover-ctl requires a command signing key of at least 32 bytes; 24 letters and digits are 142 bits.
  validation {
    condition     = alltrue([for secret in var.secrets : secret.length >= (secret.kind == "key" ? 32 : 24) && secret.length <= 128])
    error_message = "length of each secret must be 24 to 128 for a password and 32 to 128 for a key."
  }

  validation {
    condition     = alltrue([for secret in var.secrets : length(trimspace(secret.description)) > 0])
    error_message = "Each secret needs a description that names its users."
  }
}

variable "generation" {
  description = "Raise it to replace every value that this module generates. Nodes and services use the new values after a rollout, so plan that first."
  type        = number
  default     = 1

  validation {
    condition     = var.generation >= 1 && floor(var.generation) == var.generation
    error_message = "generation must be a whole number from 1; it only rises."
  }
}

variable "recovery_window_days" {
  description = "Days for which a deleted secret can be restored. 0 deletes at once, so that a test environment can be created again under the same names."
  type        = number
  default     = 30

  validation {
    condition     = var.recovery_window_days == 0 || (var.recovery_window_days >= 7 && var.recovery_window_days <= 30)
    error_message = "recovery_window_days must be 0, or 7 to 30, the limits of Secrets Manager."
  }
}
