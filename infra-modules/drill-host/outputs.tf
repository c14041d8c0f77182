output "instance_id" {
  description = "The host, for Systems Manager."
  value       = module.host.instance_id
}

output "scratch_volume_id" {
  description = "Scratch volume, to be mounted where copies are restored."
  value       = aws_ebs_volume.scratch.id
}

output "role_arn" {
  description = "Role of the host, for the policies of both backup buckets. Built from its name, so that plans show it."
  value       = module.host.role_arn
}
