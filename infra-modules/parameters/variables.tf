variable "path" {
  description = "Where the parameters lie, such as `/causeway-production`."
  type        = string

  validation {
    condition     = can(regex("^(/[a-z0-9][a-z0-9-]*)+$", var.path))
    error_message = "path must begin with a slash, end without one, and hold lower-case letters, digits and hyphens, such as /causeway-production/dr."
  }
}

variable "values" {
  description = "The parameters by name: what they are for, and their value. None is secret; secrets belong to Secrets Manager."
  type = map(object({
    description = string
    value       = string
  }))

  validation {
    condition     = alltrue([for it in keys(var.values) : can(regex("^[a-z0-9][a-z0-9-]*$", it))])
    error_message = "The names in values must hold lower-case letters, digits and hyphens."
  }
}
