output "names" {
  description = "Full name of each parameter, for `aws ssm get-parameter --name`."
  value       = { for k, p in aws_ssm_parameter.this : k => p.name }
}
