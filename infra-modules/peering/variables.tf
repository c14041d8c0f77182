variable "name" {
  description = "Prefix of every name: <project>-<environment>."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,22}[a-z0-9]$", var.name)) && !strcontains(var.name, "--")
    error_message = "name must start with a lower-case letter and have 2 to 24 lower-case letters, digits and single hyphens: write <project>-<environment>, such as causeway-production."
  }
}

variable "requester" {
  description = "VPC in the provider's region, with the route tables that get a route to the accepter's."
  type = object({
    vpc_id          = string
    cidr            = string
    route_table_ids = map(string)
  })

  validation {
    condition     = try(cidrhost(var.requester.cidr, 0) == split("/", var.requester.cidr)[0], false)
    error_message = "requester.cidr must be an IPv4 network in CIDR notation with no host bits set, such as 10.1.0.0/16."
  }
}

variable "accepter" {
  description = "VPC in the other region, that region, and the route tables that get a route to the requester's."
  type = object({
    vpc_id          = string
    cidr            = string
    region          = string
    route_table_ids = map(string)
  })

  validation {
    condition     = try(cidrhost(var.accepter.cidr, 0) == split("/", var.accepter.cidr)[0], false)
    error_message = "accepter.cidr must be an IPv4 network in CIDR notation with no host bits set, such as 10.2.0.0/16."
  }

  # Two networks overlap if they are equal at the shorter of their prefixes.
  validation {
    condition = try(
      length(distinct([
        for cidr in [var.requester.cidr, var.accepter.cidr] : cidrhost(
          "${split("/", cidr)[0]}/${min([for it in [var.requester.cidr, var.accepter.cidr] : tonumber(split("/", it)[1])]...)}", 0
        )
      ])) == 2, true
    )
    error_message = "The two VPCs overlap: ${var.requester.cidr} and ${var.accepter.cidr} share addresses, so neither could route to the other. Change one of them."
  }
}
