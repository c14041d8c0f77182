variable "name" {
  description = "Prefix of every name: <project>-<environment>."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,23}$", var.name))
    error_message = "name must begin with a lower-case letter and hold at most 24 lower-case letters, digits and hyphens: write <project>-<environment>, such as causeway-production."
  }
}

variable "alias" {
  description = "What the key is called in the console, where a region has a second one; `name` unless set."
  type        = string
  default     = null

  validation {
    condition     = var.alias == null || can(regex("^[a-z][a-z0-9-]*$", var.alias))
    error_message = "alias must hold lower-case letters, digits and hyphens, such as causeway-production-secrets."
  }
}

variable "description" {
  description = "What the key encrypts, in a few words."
  type        = string

  validation {
    condition     = length(trimspace(var.description)) > 0
    error_message = "description must say what the key encrypts: whoever finds the key has to know what is lost with it."
  }
}

variable "services" {
  description = "AWS services that use the key for themselves: \"logs\" (CloudWatch Logs), and \"cloudwatch\", \"events\" and \"budgets\" (what publishes to an encrypted topic)."
  type        = set(string)
  default     = ["logs"]

  validation {
    condition     = length(setsubtract(var.services, ["logs", "cloudwatch", "events", "budgets"])) == 0
    error_message = "services may hold \"logs\", \"cloudwatch\", \"events\" and \"budgets\". S3, EBS and Secrets Manager use the key with the rights of their caller, and need no entry."
  }
}

variable "deletion_window_days" {
  description = "For how many days a deleted key can be restored."
  type        = number
  default     = 30

  validation {
    condition     = var.deletion_window_days >= 7 && var.deletion_window_days <= 30
    error_message = "deletion_window_days must be 7 to 30, as KMS has it."
  }
}
