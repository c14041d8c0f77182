output "instance_id" {
  description = "The host, for Systems Manager."
  value       = aws_instance.this.id
}

output "private_ip" {
  description = "Address of the host."
  value       = aws_instance.this.private_ip
}

output "security_group_id" {
  description = "Security group of the host, for the caller's rules."
  value       = aws_security_group.this.id
}

output "role_name" {
  description = "Role of the host, for the caller's policy."
  value       = aws_iam_role.this.name
}

output "role_arn" {
  description = "The same by its ARN. Built from the name, so that plans show it."
  value       = "arn:aws:iam::${data.aws_caller_identity.this.account_id}:role/${local.role_name}"
}
