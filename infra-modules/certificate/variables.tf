variable "name" {
  description = "Prefix of every name: <project>-<environment>."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,23}$", var.name))
    error_message = "name must start with a lower-case letter and have at most 24 lower-case letters, digits and hyphens: write <project>-<environment>, such as causeway-production."
  }
}

variable "zone_id" {
  description = "Public zone of the validation records."
  type        = string
}

variable "domain_names" {
  description = "Names in the certificate; the first is its subject."
  type        = list(string)

  validation {
    condition     = length(var.domain_names) > 0 && length(var.domain_names) == length(distinct(var.domain_names))
    error_message = "domain_names must contain at least one name, and none twice."
  }

  validation {
    condition     = alltrue([for it in var.domain_names : can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", it))])
    error_message = "domain_names must contain full names in lower case and without a wildcard, such as api.example.com."
  }
}

variable "owned_names" {
  description = "The `domain_names` whose validation records this module writes; all by default. Leave out those of another region's root."
  type        = list(string)
  default     = null

  validation {
    condition     = var.owned_names == null || length(setsubtract(coalesce(var.owned_names, []), var.domain_names)) == 0
    error_message = "owned_names contains a name that is not in domain_names: add it there, or remove it here."
  }
}
