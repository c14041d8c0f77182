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
  description = "The GitHub repository whose workflows may assume the roles, with its ids: `owner@<id>/name@<id>`, or `owner/name` beside `repository_ids`."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9-]*(@[1-9][0-9]*)?/[A-Za-z0-9._-]+(@[1-9][0-9]*)?$", var.repository))
    error_message = "repository is `${var.repository}`: write it as `owner@<id>/name@<id>` or `owner/name`, without wildcards and without https://."
  }

  validation {
    condition     = !can(regex("^example(@[0-9]+)?/", lower(var.repository)))
    error_message = "repository is `${var.repository}`, a placeholder: its owner on GitHub would get the roles. Write your own."
  }

  # A name can be given away and taken by another; an id cannot.
  validation {
    condition     = can(regex("^[^@/]+@[0-9]+/[^@/]+@[0-9]+$", var.repository)) || !strcontains(var.repository, "@") && var.repository_ids != null
    error_message = "repository is `${var.repository}`, without ids, which GitHub's tokens contain since July 2026. Set repository_ids to what this prints: gh api repos/${replace(var.repository, "/@[0-9]+/", "")} --jq '{owner: .owner.id, repository: .id}'"
  }

  validation {
    condition     = var.repository_ids == null || !strcontains(var.repository, "@")
    error_message = "repository is `${var.repository}`, and repository_ids is set too: write the ids in one of them."
  }
}

variable "repository_ids" {
  description = "GitHub's ids of the repository's owner and of the repository, unless `repository` contains them: `gh api repos/<owner>/<name> --jq '{owner: .owner.id, repository: .id}'`."
  type        = object({ owner = number, repository = number })
  default     = null

  validation {
    condition     = var.repository_ids == null || alltrue([for id in values(coalesce(var.repository_ids, { owner = 1, repository = 1 })) : id > 0 && floor(id) == id])
    error_message = "repository_ids is ${jsonencode(var.repository_ids)}: an id is a positive whole number, as `gh api repos/<owner>/<name> --jq '{owner: .owner.id, repository: .id}'` prints it."
  }
}

variable "environments" {
  description = "Environments in this account, in the order in which the pipelines change them. Each has three GitHub environments: `<environment>-infra` for its apply role, `<environment>` for deploy, and `<environment>-hosts` for operate."
  type        = list(string)

  validation {
    condition     = length(var.environments) > 0
    error_message = "environments is empty: name at least one, such as \"production\"."
  }

  validation {
    condition     = length(var.environments) <= 2
    error_message = "environments names ${length(var.environments)}: the pipelines change one after the other, and at most two. Give the others an account of their own."
  }

  validation {
    condition     = alltrue([for e in var.environments : can(regex("^[a-z][a-z0-9-]*$", e)) && !endswith(e, "-") && length("${var.project}-${e}") <= 24])
    error_message = "An environment's name has lower case letters, digits and hyphens, none last, and with the project's name before it at most 24 characters: shorten one of ${jsonencode(var.environments)}."
  }

  # The roles are limited to names that begin with the environment's.
  validation {
    condition     = alltrue([for i, e in var.environments : alltrue([for j, other in var.environments : i == j || !startswith(other, e)])])
    error_message = "environments is ${jsonencode(var.environments)}: one name begins with another, so the roles of the shorter would reach the resources of the longer. Rename one."
  }

  validation {
    condition     = alltrue([for e in var.environments : !can(regex("-(infra|hosts)$|^(release|restore-drill|shared)$", e))])
    error_message = "environments is ${jsonencode(var.environments)}: `release`, `restore-drill`, `shared` and names with -infra or -hosts at their end are GitHub environments of the pipelines, or tags. Rename it."
  }
}

variable "dns_zones" {
  description = "Zones whose records each environment may change, public and private: its `dns.public_zone` and `dns.private_zone`. No zone belongs to two environments, since the private zones' names are compared too."
  type        = map(set(string))

  validation {
    condition     = toset(keys(var.dns_zones)) == toset(var.environments)
    error_message = "dns_zones is for ${jsonencode(keys(var.dns_zones))}, and the environments are ${jsonencode(var.environments)}: name the zones of each."
  }

  validation {
    condition     = alltrue([for zones in values(var.dns_zones) : length(zones) > 0 && alltrue([for zone in zones : can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", zone))])])
    error_message = "dns_zones is ${jsonencode(var.dns_zones)}: each environment needs its zones, as names in lower case without a wildcard or a dot at the end, such as example.com."
  }

  validation {
    condition     = length(flatten([for zones in values(var.dns_zones) : tolist(zones)])) == length(toset(flatten([for zones in values(var.dns_zones) : tolist(zones)])))
    error_message = "dns_zones names a zone for two environments, so each could change the other's records: give one a zone of its own, such as staging.example.com and staging.causeway.internal."
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
