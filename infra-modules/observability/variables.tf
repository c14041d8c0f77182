variable "name" {
  description = "Prefix of every name: project and environment, such as `causeway-production`."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,22}[a-z0-9]$", var.name))
    error_message = "`name` is `${var.name}`: write 2 to 24 lower case letters, digits and hyphens, beginning with a letter."
  }
}

variable "alarm_emails" {
  description = "Addresses for alarms. Each confirms once, with the link in AWS's message."
  type        = list(string)

  validation {
    condition     = length(var.alarm_emails) > 0 && alltrue([for it in var.alarm_emails : can(regex("^[^@ ]+@[^@ ]+\\.[^@ ]+$", it))])
    error_message = "`alarm_emails` is empty or contains no address: name at least one that is read."
  }
}

variable "budget" {
  description = "Monthly budget of the account in US dollars, and the addresses notified at 80 % and when the forecast exceeds it. One budget covers all regions."
  type = object({
    monthly_usd = number
    emails      = list(string)
  })
  default = null

  validation {
    condition     = var.budget == null || try(var.budget.monthly_usd > 0 && length(var.budget.emails) > 0, false)
    error_message = "`budget` has no amount or no address: write more than 0 dollars and an address, or leave it out."
  }

  validation {
    condition     = length(try(var.budget.emails, [])) <= 10
    error_message = "`budget.emails` has ${length(try(var.budget.emails, []))} addresses, and AWS Budgets takes 10: name a distribution list, or fewer."
  }
}

variable "instances" {
  description = "Monitored instances, by name."
  type        = map(string)
  default     = {}
}

variable "replication" {
  description = "Replication rules of this region's buckets: source, destination, and the rule's id."
  type = list(object({
    bucket      = string
    destination = string
    rule        = string
  }))
  default = []
}

variable "bucket_sizes" {
  description = "Buckets of this region whose size is monitored, and the size in GiB above which an alarm is raised, by a label of your choice."
  type = map(object({
    bucket    = string
    alarm_gib = number
  }))
  default = {}

  validation {
    condition     = alltrue([for size in var.bucket_sizes : size.alarm_gib > 0])
    error_message = "`bucket_sizes` has an `alarm_gib` of 0 or less: write the size in GiB that the bucket should never have."
  }
}

variable "replication_latency_seconds" {
  description = "Maximum replication lag, in seconds. S3 guarantees 15 minutes."
  type        = number
  default     = 900

  validation {
    condition     = var.replication_latency_seconds >= 60
    error_message = "`replication_latency_seconds` is ${var.replication_latency_seconds}: CloudWatch counts in minutes, so write 60 or more."
  }
}

variable "load_balancers" {
  description = "Monitored load balancers, by a label of your choice, as ARN suffixes. Their targets are monitored by api-ecs, whose alarms roll deployments back."
  type = map(object({
    arn_suffix = string
  }))
  default = {}
}

variable "log_retention_days" {
  description = "Retention of health events in days, as CloudWatch allows."
  type        = number
  default     = 365

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "`log_retention_days` is ${var.log_retention_days}: CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731 or more days."
  }
}

variable "kms_key_arn" {
  description = "KMS key of this region, for the topic and the log. Its policy must admit CloudWatch, EventBridge and AWS Budgets."
  type        = string
}
