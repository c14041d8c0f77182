output "instance_id" {
  description = "The host, for Systems Manager."
  value       = module.host.instance_id
}

output "private_ip" {
  description = "Address of the host, for the other region's."
  value       = module.host.private_ip
}
