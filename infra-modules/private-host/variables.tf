variable "name" {
  description = "Prefix of every name: project and environment, such as `causeway-production`."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,22}[a-z0-9]$", var.name))
    error_message = "`name` is `${var.name}`: write 2 to 24 lower case letters, digits and hyphens, beginning with a letter."
  }
}

variable "role" {
  description = "Purpose of the host, such as `monitoring`: its tag `Role`, by which Ansible and IAM find it, and the second part of its names."
  type        = string
}

variable "title" {
  description = "The purpose in descriptions, such as `Drill host`."
  type        = string
}

variable "node" {
  description = "Name of the host in Ansible's inventory: its tag `Node`. Default: the tag `Name`."
  type        = string
  default     = null
}

variable "vpc_id" {
  description = "The VPC of the host."
  type        = string
}

variable "subnet_id" {
  description = "The data subnet of the host."
  type        = string
}

variable "instance_type" {
  description = "Instance type of the host, such as `t4g.small`."
  type        = string
}

variable "ami_id" {
  description = "AMI of the host, based on Debian 12. Default: Debian's newest for the architecture of `instance_type`."
  type        = string
  default     = null

  validation {
    condition     = var.ami_id == null || can(regex("^ami-[0-9a-f]+$", var.ami_id))
    error_message = "`ami_id` is no image: write one such as ami-0123456789abcdef0, or leave it out."
  }
}

variable "root_volume_size_gib" {
  description = "Size of the root volume in GiB."
  type        = number
}

variable "kms_key_arn" {
  description = "KMS key of this region, for the root volume."
  type        = string
}

variable "aws_access" {
  description = "How the host reaches AWS: the security group of the interface endpoints, and S3's prefix list. `null` in a network without endpoints: every address is then allowed at port 443."
  type = object({
    endpoint_security_group_id = string
    s3_prefix_list_id          = string
  })
}

variable "permissions_boundary" {
  description = "Permissions boundary of the host's role."
  type        = string
  default     = null
}
