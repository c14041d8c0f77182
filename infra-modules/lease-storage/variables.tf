variable "name" {
  description = "Prefix of every name: <project>-<environment>."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,23}$", var.name))
    error_message = "name must begin with a lower-case letter and hold at most 24 lower-case letters, digits and hyphens: write <project>-<environment>, such as causeway-production."
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
  description = "The cluster whose lease it is, as `cluster` in failover-ctl.toml has it. Nothing is written but below clusters/<cluster>/."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]*$", var.cluster))
    error_message = "cluster must hold lower-case letters, digits and hyphens: it is part of every key."
  }
}

variable "node_role_arns" {
  description = "Roles of the database nodes of both regions; a `*` at the end stands for the rest of their names. Each also needs s3:PutObject, s3:GetObject and s3:ListBucket in a policy of its own."
  type        = list(string)

  validation {
    condition     = length(var.node_role_arns) > 0 && alltrue([for arn in var.node_role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[^*?]+\\*?$", arn))])
    error_message = "node_role_arns must hold the ARN of at least one IAM role, with a wildcard at its end only: without a role nobody could take the lease, and with all of them anybody."
  }
}

variable "operator_role_arns" {
  description = "Roles of those who run failover-ctl away from the nodes. They write the journal of an operation."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.operator_role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$", arn))])
    error_message = "operator_role_arns must hold ARNs of IAM roles."
  }
}

variable "database_regions" {
  description = "Regions that have a database node. The bucket may be in none of them."
  type        = list(string)

  validation {
    condition     = length(var.database_regions) > 0
    error_message = "database_regions must name the regions that have a node: the bucket has to be in another."
  }
}

variable "noncurrent_days" {
  description = "For how many days replaced versions are kept. The lease is replaced every two seconds, 43,200 times a day."
  type        = number
  default     = 7

  validation {
    condition     = var.noncurrent_days >= 1 && var.noncurrent_days <= 90
    error_message = "noncurrent_days must be 1 to 90: a day of versions is the least that shows what happened in a failover, and each day adds 43,200 of them."
  }
}
