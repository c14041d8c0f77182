output "instance_id" {
  description = "The host, for Systems Manager."
  value       = aws_instance.this.id
}
