variable "path" {
  description = "Path of the parameters, such as `/causeway-production`."
  type        = string

  validation {
    condition     = can(regex("^(/[a-z0-9][a-z0-9-]*)+$", var.path))
    error_message = "path must start with a slash, end without one, and consist of lower-case letters, digits and hyphens, such as /causeway-production/dr."
  }
}

variable "values" {
  description = "Parameters by name: description and value. Not for secrets, which belong in Secrets Manager."
  type = map(object({
    description = string
    value       = string
  }))

  validation {
    condition     = alltrue([for it in keys(var.values) : can(regex("^[a-z0-9][a-z0-9-]*$", it))])
    error_message = "The names in values must consist of lower-case letters, digits and hyphens."
  }
}
