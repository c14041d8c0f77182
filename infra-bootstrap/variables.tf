variable "project" {
  description = "Prefix of every name."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,11}$", var.project)) && !endswith(var.project, "-")
    error_message = "project is `${var.project}`: write 2 to 12 lower case letters, digits and hyphens, with a letter first and no hyphen last."
  }
}

variable "owner" {
  description = "Responsible team: the tag `owner` of every resource."
  type        = string

  validation {
    condition     = trimspace(var.owner) != ""
    error_message = "owner is empty: name the team responsible for this account."
  }
}

variable "repository" {
  description = "The GitHub repository whose workflows may assume the roles, as `owner/name`."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+$", var.repository))
    error_message = "repository is `${var.repository}`: write it as `owner/name`, without wildcards and without https://."
  }
}

variable "environments" {
  description = "Environments in this account. Each is also the name of a GitHub environment, to which its apply, deploy and operate roles are bound."
  type        = set(string)

  validation {
    condition     = length(var.environments) > 0
    error_message = "environments is empty: name at least one, such as \"production\"."
  }

  validation {
    condition     = alltrue([for e in var.environments : can(regex("^[a-z][a-z0-9-]*$", e)) && length("${var.project}-${e}") <= 24])
    error_message = "An environment's name has lower case letters, digits and hyphens, and with the project's name before it at most 24 characters: shorten one of ${jsonencode(var.environments)}."
  }
}

variable "regions" {
  description = "The two database regions, and the third region for Terraform's state and the lease."
  type = object({
    primary = optional(string, "eu-west-1")
    dr      = optional(string, "eu-central-1")
    state   = optional(string, "eu-north-1")
  })
  default = {}

  validation {
    condition     = length(toset(values(var.regions))) == 3
    error_message = "regions names one region twice (${join(", ", values(var.regions))}): the state must be reachable while either database region is lost, so choose three regions."
  }
}

variable "images_kept" {
  description = "Number of API releases that the registry keeps, and to which a rollback is possible."
  type        = number
  default     = 50

  validation {
    condition     = var.images_kept >= 10 && var.images_kept <= 1000
    error_message = "images_kept is ${var.images_kept}: write 10 to 1000, so that a release can still be rolled back."
  }
}

variable "state_versions_days" {
  description = "Days for which older versions of a state file are kept."
  type        = number
  default     = 90

  validation {
    condition     = var.state_versions_days >= 30
    error_message = "state_versions_days is ${var.state_versions_days}: write 30 or more, so that a damaged state can be restored."
  }
}
