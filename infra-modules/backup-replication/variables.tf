variable "name" {
  description = "Prefix of every name: <project>-<environment>."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,23}$", var.name))
    error_message = "name must start with a lower-case letter and have at most 24 lower-case letters, digits and hyphens: write <project>-<environment>, such as causeway-production."
  }
}

variable "source_bucket" {
  description = "Source bucket, in the provider's region, and its key."
  type = object({
    bucket      = string
    arn         = string
    kms_key_arn = string
  })

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:kms:", var.source_bucket.kms_key_arn))
    error_message = "source_bucket.kms_key_arn must be the ARN of the KMS key that encrypts the source."
  }
}

variable "destination" {
  description = "Destination bucket, its key and its region."
  type = object({
    arn         = string
    kms_key_arn = string
    region      = string
  })

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:kms:${var.destination.region}:", var.destination.kms_key_arn))
    error_message = "destination.kms_key_arn must be the ARN of a KMS key in destination.region: replicas are encrypted with a key of their region."
  }
}

variable "permissions_boundary" {
  description = "Permissions boundary of the module's role, where the account requires one."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary == null || can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:policy/.+$", var.permissions_boundary))
    error_message = "permissions_boundary must be the ARN of an IAM policy."
  }
}
