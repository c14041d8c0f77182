variable "security_group_id" {
  description = "Security group whose members call AWS."
  type        = string
}

variable "aws_access" {
  description = "How they reach AWS: the security group of the interface endpoints, and S3's prefix list. `null` in a network without endpoints: every address is then allowed at port 443."
  type = object({
    endpoint_security_group_id = string
    s3_prefix_list_id          = string
  })
}
