output "instance_id" {
  description = "The host, for Systems Manager."
  value       = module.host.instance_id
}
