variable "name" {
  description = "Prefix of every name: project and environment, such as `causeway-production`."
  type        = string
}

variable "vpc_id" {
  description = "The VPC of the host."
  type        = string
}

variable "subnet_id" {
  description = "The subnet of the host: one of data, unless it runs a canary."
  type        = string
}

variable "instance_type" {
  description = "Instance type of the host, such as `t4g.small`."
  type        = string
}

variable "ami_id" {
  description = "AMI of the host, that of the nodes. Default: Debian's newest for the architecture of `instance_type`."
  type        = string
  default     = null
}

variable "volume_size_gib" {
  description = "Size of the root volume in GiB, on which Prometheus keeps its metrics."
  type        = number

  validation {
    condition     = var.volume_size_gib >= 30 && var.volume_size_gib <= 1000
    error_message = "`volume_size_gib` is ${var.volume_size_gib}: write 30 to 1000. The system has 10, and Prometheus keeps 12 by default."
  }
}

variable "kms_key_arn" {
  description = "KMS key of this region, for the volume and the topic."
  type        = string
}

variable "aws_access" {
  description = "How the host reaches AWS: the security group of the interface endpoints, and S3's prefix list. `null` in a network without endpoints: every address is then allowed at port 443."
  type = object({
    endpoint_security_group_id = string
    s3_prefix_list_id          = string
  })
}

variable "target_cidrs" {
  description = "Networks of the nodes and the API's tasks, of both regions."
  type        = list(string)

  validation {
    condition     = length(var.target_cidrs) > 0 && alltrue([for cidr in var.target_cidrs : can(regex("^(10\\.|192\\.168\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.).*/(1[6-9]|2[0-9]|3[0-2])$", cidr))])
    error_message = "`target_cidrs` is ${jsonencode(var.target_cidrs)}: name private networks of a /16 or smaller."
  }
}

variable "ports" {
  description = "Ports that Prometheus scrapes, by what listens there."
  type        = map(number)
  default     = { agents = 8009, node-exporters = 9100, postgres-exporters = 9187, api = 9090 }
}

variable "pooler" {
  description = "Whether the nodes have a pooler, whose exporter is scraped too."
  type        = bool
  default     = false
}

variable "pooler_exporter_port" {
  description = "The port of the pooler's exporter."
  type        = number
  default     = 9127
}

variable "peer_addresses" {
  description = "Address of the other region's monitoring host, if it has one: the Alertmanagers share silences and send each notification once, and each Prometheus scrapes the other's host."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for address in var.peer_addresses : can(regex("^(10\\.|192\\.168\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.)", address)) && can(cidrhost("${address}/32", 0))])
    error_message = "`peer_addresses` is ${jsonencode(var.peer_addresses)}: write the private IPv4 address of the other monitoring host."
  }
}

variable "cluster_port" {
  description = "Port, TCP and UDP, between Alertmanagers."
  type        = number
  default     = 9094
}

variable "canary" {
  description = "Whether the API's canary runs on the host: its subnet has a route to the internet, and the host reaches every address at port 443."
  type        = bool
  default     = false
}

variable "ecs_cluster_name" {
  description = "ECS cluster of the API in this region, whose tasks the host lists. Without it the host may list none."
  type        = string
  default     = null
}

variable "alarm_topic_arn" {
  description = "SNS topic for Alertmanager's notifications."
  type        = string
}

variable "permissions_boundary" {
  description = "Permissions boundary of the host's role."
  type        = string
  default     = null
}
