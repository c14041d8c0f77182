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

variable "cluster" {
  description = "Cluster of the lease, as `cluster` in failover-ctl.toml. Only keys below clusters/<cluster>/ may be written."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,62}$", var.cluster))
    error_message = "cluster must consist of at most 63 lower-case letters, digits and hyphens: it is part of every key."
  }
}

variable "node_role_arns" {
  description = "Roles of the database nodes of both regions; a trailing `*` matches the rest of their names. Each also needs s3:PutObject, s3:GetObject and s3:ListBucket in its own policy."
  type        = list(string)

  validation {
    condition     = length(var.node_role_arns) > 0 && alltrue([for arn in var.node_role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[^*?]+\\*?$", arn))])
    error_message = "node_role_arns must contain the ARN of at least one IAM role, with a wildcard at its end only: without a role no node could take the lease, and a wildcard role would let every principal take it."
  }
}

variable "operator_role_arns" {
  description = "Roles of operators who run failover-ctl outside of the nodes. They write the journal of an operation."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.operator_role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[^*?]+$", arn))])
    error_message = "operator_role_arns must contain ARNs of IAM roles, without wildcards: a wildcard role would let every principal write the lease."
  }
}

variable "database_regions" {
  description = "Regions with a database node. The bucket must be in another."
  type        = list(string)

  validation {
    condition     = length(var.database_regions) > 0
    error_message = "database_regions must name the regions that have a node: the bucket has to be in another."
  }
}

variable "noncurrent_days" {
  description = "Days for which replaced versions are kept. The lease is replaced every two seconds, 43,200 times a day."
  type        = number
  default     = 7

  validation {
    condition     = var.noncurrent_days >= 1 && var.noncurrent_days <= 90
    error_message = "noncurrent_days must be 1 to 90: a day is the minimum for analysing a failover, and each day adds 43,200 versions."
  }
}
