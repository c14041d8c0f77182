variable "name" {
  description = "Prefix of every name: <project>-<environment>."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,22}[a-z0-9]$", var.name)) && !strcontains(var.name, "--")
    error_message = "name must start with a lower-case letter and have 2 to 24 lower-case letters, digits and single hyphens: write <project>-<environment>, such as causeway-production."
  }
}

variable "cidr" {
  description = "CIDR block of the VPC, from 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16. A prefix of /16 to /20 gives subnets of /20 to /24."
  type        = string

  validation {
    condition     = try(cidrhost(var.cidr, 0) == split("/", var.cidr)[0], false)
    error_message = "cidr must be an IPv4 network in CIDR notation with no host bits set, such as 10.1.0.0/16."
  }

  validation {
    condition     = try(tonumber(split("/", var.cidr)[1]) >= 16 && tonumber(split("/", var.cidr)[1]) <= 20, false)
    error_message = "cidr must be a /16 to /20: AWS allows no larger VPC than /16, and below /20 the subnets are too small for the API's tasks and the endpoints."
  }

  validation {
    condition = anytrue([
      try(cidrhost("${split("/", var.cidr)[0]}/8", 0) == "10.0.0.0", false),
      try(cidrhost("${split("/", var.cidr)[0]}/12", 0) == "172.16.0.0", false),
      try(cidrhost("${split("/", var.cidr)[0]}/16", 0) == "192.168.0.0", false),
    ])
    error_message = "cidr must lie in a private range (RFC 1918): choose one from 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16."
  }
}

variable "zones" {
  description = "The three availability zones, such as eu-west-1a, eu-west-1b and eu-west-1c. The order determines their addresses; do not change it."
  type        = list(string)

  validation {
    condition     = length(var.zones) == 3 && length(distinct(var.zones)) == 3
    error_message = "zones must name three different availability zones: with fewer, the loss of one takes the database and the API with it."
  }
}

variable "bucket_names" {
  description = "Buckets that the hosts use, of every region: the endpoints of S3 admit no other, neither of this account nor of another."
  type        = list(string)

  validation {
    condition     = length(var.bucket_names) > 0 && alltrue([for bucket in var.bucket_names : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", bucket))])
    error_message = "bucket_names is ${jsonencode(var.bucket_names)}: name the buckets of the lease and of both regions' backups, without wildcards."
  }
}

variable "nat" {
  description = "NAT gateways for the private subnets: \"none\" (endpoints only), \"one\" in the first zone, \"two\" in the first two, or one \"per-zone\". The API on ECS needs none, and the data subnets use them only without endpoints."
  type        = string
  default     = "none"

  validation {
    condition     = contains(["one", "two", "per-zone", "none"], var.nat)
    error_message = "nat must be \"one\", \"two\", \"per-zone\" or \"none\"."
  }
}

variable "endpoints" {
  description = "Zones of the interface endpoints: \"per-zone\", the first \"two\", or \"one\", whose loss cuts the nodes of the others off from the lease. With \"none\" the data subnets reach AWS, and every other address, through NAT, which costs less than endpoints in a small network."
  type        = string
  default     = "per-zone"

  validation {
    condition     = contains(["one", "two", "per-zone", "none"], var.endpoints)
    error_message = "endpoints must be \"one\", \"two\", \"per-zone\" or \"none\"."
  }

  validation {
    condition     = var.endpoints != "none" || var.nat != "none"
    error_message = "endpoints and nat are both \"none\": the nodes could reach neither the lease nor Systems Manager. Set one of the two."
  }
}

variable "further_endpoints" {
  description = "Interface endpoints of services that none of the platform's programs calls: \"ec2messages\" (SSM agents before 3.3.40), \"kms\", \"monitoring\", \"sts\"; for EKS \"autoscaling\", \"eks\", \"eks-auth\", \"elasticloadbalancing\"; for a monitoring host \"ecs\" and \"sns\", which the roots add. Each is priced by zone and hour."
  type        = set(string)
  default     = []

  validation {
    condition     = length(setsubtract(var.further_endpoints, ["autoscaling", "ec2messages", "ecs", "eks", "eks-auth", "elasticloadbalancing", "kms", "monitoring", "sns", "sts"])) == 0
    error_message = "further_endpoints contains ${join(", ", setsubtract(var.further_endpoints, ["autoscaling", "ec2messages", "ecs", "eks", "eks-auth", "elasticloadbalancing", "kms", "monitoring", "sns", "sts"]))}: it may contain autoscaling, ec2messages, ecs, eks, eks-auth, elasticloadbalancing, kms, monitoring, sns and sts. Another service needs a policy in endpoint_policy.tf."
  }
}

variable "allowed_domains" {
  description = "Domains that the VPC's resolver answers besides AWS's: the private zone, and what hosts and tasks reach through NAT. \"example.com\" includes its subdomains, \"*.example.com\" is these alone, \"*\" is every name."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for domain in var.allowed_domains : domain == "*" || can(regex("^(\\*\\.)?([a-z0-9_]([a-z0-9_-]*[a-z0-9])?\\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?$", domain))])
    error_message = "allowed_domains must be domain names in lower case without a scheme, a path or a dot at the end, such as causeway.internal or *.example.com."
  }
}

variable "remote_services" {
  description = "AWS services of other regions with an endpoint in the data subnets, by label: the lease's S3, the other region's S3, Route 53."
  type = map(object({
    service_name = string
    region       = string
  }))
  default = {}

  validation {
    condition     = alltrue([for s in var.remote_services : can(regex("^com\\.amazonaws\\.[a-z0-9.-]+$", s.service_name))])
    error_message = "each service_name in remote_services must be an AWS service such as com.amazonaws.eu-north-1.s3 or com.amazonaws.route53."
  }

  validation {
    condition     = alltrue([for s in var.remote_services : !endswith(s.service_name, ".s3") || s.service_name == "com.amazonaws.${s.region}.s3"])
    error_message = "a service_name in remote_services is S3 of another region than its region: write com.amazonaws.<region>.s3 with the same region."
  }
}

variable "flow_log_retention_days" {
  description = "Retention of the flow log, in days."
  type        = number
  default     = 30

  validation {
    condition = contains([
      1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
    ], var.flow_log_retention_days)
    error_message = "flow_log_retention_days must be a period that CloudWatch Logs supports, such as 7, 30, 90, 365 or 731."
  }
}

variable "kms_key_arn" {
  description = "KMS key of the flow log. Its policy must admit CloudWatch Logs of this region. Default: AWS's own key."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:aws[a-z-]*:kms:", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of a KMS key, such as the output of the module kms."
  }
}

variable "permissions_boundary" {
  description = "Permissions boundary of the module's role, where the account requires one."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary == null || can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:policy/.+$", var.permissions_boundary))
    error_message = "permissions_boundary must be the ARN of an IAM policy."
  }
}
