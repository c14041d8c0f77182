variable "name" {
  description = "Name of the cluster, and prefix of every other name: project and environment, such as `causeway-production`."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,22}[a-z0-9]$", var.name))
    error_message = "`name` is `${var.name}`: write 2 to 24 lower case letters, digits and hyphens, beginning with a letter."
  }
}

variable "private_subnet_ids" {
  description = "Subnets of the nodes and pods, one per zone."
  type        = list(string)

  validation {
    condition     = length(distinct(var.private_subnet_ids)) >= 2
    error_message = "The cluster would be in one zone: name private subnets in two zones at least."
  }
}

variable "nat" {
  description = "NAT gateways of the network, as for `network`: nodes need a way out."
  type        = string

  validation {
    condition     = contains(["one", "two", "per-zone"], var.nat)
    error_message = "`nat` is `${var.nat}`: nodes pull the images of the controllers from registries outside of AWS, and reach the APIs of EKS, Auto Scaling and Elastic Load Balancing without an endpoint. Set network.nat to one, two or per-zone."
  }
}

variable "kubernetes_version" {
  description = "The version of Kubernetes, such as `1.36`. The plan rejects one that EKS does not offer, and warns 60 days before the end of its support."
  type        = string

  validation {
    condition     = can(regex("^1\\.[0-9]{2}$", var.kubernetes_version))
    error_message = "`kubernetes_version` is `${var.kubernetes_version}`: write a minor version such as 1.36."
  }
}

variable "support_type" {
  description = "After the standard support of the version, 14 months: `STANDARD` lets AWS upgrade the cluster, `EXTENDED` keeps the version for 12 months more, at a price per hour."
  type        = string
  default     = "STANDARD"

  validation {
    condition     = contains(["STANDARD", "EXTENDED"], var.support_type)
    error_message = "`support_type` is `${var.support_type}`: write STANDARD or EXTENDED."
  }
}

variable "node" {
  description = "Nodes: instance types, minimum, maximum and initial number, and disk size in GiB. `ami_type` must match the architecture."
  type = object({
    instance_types = list(string)
    min            = number
    max            = number
    desired        = number
    disk_gib       = optional(number, 30)
    ami_type       = optional(string, "AL2023_x86_64_STANDARD")
  })

  validation {
    condition     = length(var.node.instance_types) > 0 && contains(["AL2023_x86_64_STANDARD", "AL2023_ARM_64_STANDARD"], var.node.ami_type)
    error_message = "`node` has no instance type or another image: name a type, and AL2023_x86_64_STANDARD or AL2023_ARM_64_STANDARD."
  }

  validation {
    condition     = var.node.min >= 1 && var.node.min <= var.node.desired && var.node.desired <= var.node.max
    error_message = "`node` is min ${var.node.min}, desired ${var.node.desired}, max ${var.node.max}: write them in this order, from 1 on."
  }

  validation {
    condition     = var.node.disk_gib >= 20
    error_message = "`node.disk_gib` is ${var.node.disk_gib}: the images need 20 GiB at least."
  }
}

variable "kms_key_arn" {
  description = "KMS key of this region, for Kubernetes secrets, the logs and the passwords."
  type        = string
}

variable "secret_kms_key_arns" {
  description = "Further KMS keys of secrets: replicas from another region have their own."
  type        = list(string)
  default     = []
}

variable "admin_role_arns" {
  description = "Administrator roles of the cluster. The creator is not one."
  type        = list(string)

  validation {
    condition     = length(var.admin_role_arns) > 0 && alltrue([for arn in var.admin_role_arns : can(regex("^arn:aws:iam::[0-9]{12}:role/", arn))])
    error_message = "`admin_role_arns` is empty or contains an ARN that is no role: without one the cluster cannot be administered."
  }
}

variable "viewer_role_arns" {
  description = "Roles that read every kind but Secrets, such as of on-call engineers."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.viewer_role_arns : can(regex("^arn:aws:iam::[0-9]{12}:role/", arn)) && !contains(var.admin_role_arns, arn)])
    error_message = "`viewer_role_arns` contains an ARN that is no role, or one of `admin_role_arns`: name roles, each in one of the two lists."
  }
}

variable "private_access_cidrs" {
  description = "Private networks outside of this VPC that may reach the Kubernetes API, such as a VPN's. They need a route to the VPC."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.private_access_cidrs : can(regex("^(10\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.|192\\.168\\.).*/(1[6-9]|2[0-9]|3[0-2])$", cidr)) && can(cidrhost(cidr, 0))])
    error_message = "`private_access_cidrs` contains a public network: name a /16 or smaller within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16, or use `public_access_cidrs`."
  }
}

variable "public_access_cidrs" {
  description = "Networks that may reach the Kubernetes API over the internet. Empty: reachable from the VPC only."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.public_access_cidrs : can(cidrhost(cidr, 0)) && try(tonumber(split("/", cidr)[1]) >= 16, false)])
    error_message = "`public_access_cidrs` is larger than a network of your own: name networks of a /16 or smaller, and never 0.0.0.0/0."
  }
}

variable "secret_arns" {
  description = "The secrets of the API: the passwords of its roles, and of the cache."
  type        = list(string)

  validation {
    condition     = length(var.secret_arns) > 0 && alltrue([for arn in var.secret_arns : !strcontains(arn, "*")])
    error_message = "`secret_arns` is empty or holds a wildcard: name each secret of the API."
  }
}

variable "secrets_reader" {
  description = "Service account that fetches those secrets: the External Secrets Operator's."
  type = object({
    namespace       = optional(string, "external-secrets")
    service_account = optional(string, "external-secrets")
  })
  default = {}
}

variable "image_repository" {
  description = "Image of the API without tag, for the chart."
  type        = string
}

variable "database" {
  description = "The database, as for api-ecs, for the chart."
  type = object({
    hosts               = list(string)
    cidrs               = list(string)
    port                = optional(number, 5432)
    name                = string
    user                = string
    password_secret_arn = string
    ca_certificate_pem  = string
  })

  # Plans without one would pass, and the chart then refuse the values.
  validation {
    condition     = can(regex("^-----BEGIN CERTIFICATE-----\\n", var.database.ca_certificate_pem))
    error_message = "`database.ca_certificate_pem` is no certificate: pods verify PostgreSQL's certificates. Set it to the PEM of the CA, from `-----BEGIN CERTIFICATE-----` on."
  }

  validation {
    condition     = length(var.database.hosts) > 0 && length(var.database.cidrs) > 0
    error_message = "`database` has no host or no network: name every node and their data subnets."
  }
}

variable "migration" {
  description = "Database role that owns the schema, as for api-ecs, for the chart. `enabled` is false in a standby region, which reaches no primary."
  type = object({
    user                = string
    password_secret_arn = string
    enabled             = optional(bool, true)
  })

  validation {
    condition     = var.migration.user != var.database.user && var.migration.password_secret_arn != var.database.password_secret_arn
    error_message = "`migration` and `database` are one role: the service must not own the schema."
  }
}

variable "health_check_path" {
  description = "Readiness path of the pods, for the chart: `/readyz`, or `/livez` in a standby region, whose pods reach no primary."
  type        = string
  default     = "/readyz"

  validation {
    condition     = contains(["/readyz", "/livez"], var.health_check_path)
    error_message = "`health_check_path` is `${var.health_check_path}`: write /readyz, or /livez in a standby region."
  }
}

variable "redis" {
  description = "The cache, for the chart. `cidrs` are its networks."
  type = object({
    host            = string
    port            = number
    auth_secret_arn = string
    cidrs           = list(string)
  })
  default = null
}

variable "ingress" {
  description = "The load balancer of the chart's Ingress: host names, their certificate, and the CIDR blocks of its subnets, which the pods admit and trust as proxies. `waf_acl_arn` is optional."
  type = object({
    hosts           = list(string)
    certificate_arn = string
    subnet_cidrs    = list(string)
    scheme          = optional(string, "internet-facing")
    waf_acl_arn     = optional(string, "")
  })

  validation {
    condition     = length(var.ingress.hosts) > 0 && length(var.ingress.subnet_cidrs) > 0
    error_message = "`ingress` has no host or no subnet: name the API's names, and the public subnets, or the private ones of an internal load balancer."
  }

  validation {
    condition     = contains(["internal", "internet-facing"], var.ingress.scheme)
    error_message = "`ingress.scheme` is `${var.ingress.scheme}`: write internet-facing or internal."
  }
}

variable "settings" {
  description = "Further settings of the API, for the chart's `extraEnv`, such as { COMPANY_NAME = \"Example\" }. The chart rejects unknown ones."
  type        = map(string)
  default     = {}
}

variable "log_retention_days" {
  description = "Retention of the control plane's logs in days, as CloudWatch allows."
  type        = number
  default     = 365

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "`log_retention_days` is ${var.log_retention_days}: CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731 or more days."
  }
}

variable "deletion_protection" {
  description = "Deletion protection of the cluster."
  type        = bool
  default     = true
}

variable "permissions_boundary" {
  description = "Permissions boundary of every role."
  type        = string
  default     = null
}
