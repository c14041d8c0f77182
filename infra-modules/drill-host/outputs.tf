output "instance_id" {
  description = "The host, for Systems Manager."
  value       = aws_instance.this.id
}

output "scratch_volume_id" {
  description = "The volume that is to be mounted where copies are restored to."
  value       = aws_ebs_volume.scratch.id
}

output "role_arn" {
  description = "The role of the host, for the policies of both backup buckets. Made of its name, so that a plan shows them whole."
  value       = "arn:aws:iam::${data.aws_caller_identity.this.account_id}:role/${local.role_name}"
}
