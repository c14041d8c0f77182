variable "name" {
  description = "Prefix of every name: <project>-<environment>."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,23}$", var.name))
    error_message = "name must start with a lower-case letter and have at most 24 lower-case letters, digits and hyphens: write <project>-<environment>, such as causeway-production."
  }
}

variable "alias" {
  description = "Alias of the key, where a region has a second one; default `name`."
  type        = string
  default     = null

  validation {
    condition     = var.alias == null || can(regex("^[a-z][a-z0-9-]*$", var.alias))
    error_message = "alias must consist of lower-case letters, digits and hyphens, such as causeway-production-secrets."
  }
}

variable "description" {
  description = "Data that the key encrypts."
  type        = string

  validation {
    condition     = length(trimspace(var.description)) > 0
    error_message = "description must name the data that the key encrypts, which is lost with the key."
  }
}

variable "services" {
  description = "AWS services that use the key on their own: \"logs\" (CloudWatch Logs), and \"cloudwatch\", \"events\" and \"budgets\" (publishers to an encrypted topic)."
  type        = set(string)
  default     = ["logs"]

  validation {
    condition     = length(setsubtract(var.services, ["logs", "cloudwatch", "events", "budgets"])) == 0
    error_message = "services may contain \"logs\", \"cloudwatch\", \"events\" and \"budgets\". S3, EBS and Secrets Manager use the key with their caller's permissions, and need no entry."
  }
}

variable "deletion_window_days" {
  description = "Days for which a deleted key can be restored."
  type        = number
  default     = 30

  validation {
    condition     = var.deletion_window_days >= 7 && var.deletion_window_days <= 30
    error_message = "deletion_window_days must be 7 to 30, the limits of KMS."
  }
}
