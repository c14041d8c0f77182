output "arn" {
  description = "The certificate, once it is issued; for the load balancer's listener."
  value       = aws_acm_certificate_validation.this.certificate_arn
}

output "validated_names" {
  description = "The names whose proof is written here, for the roots of other regions: known once the records are there."
  value       = keys(aws_route53_record.proof)
}
