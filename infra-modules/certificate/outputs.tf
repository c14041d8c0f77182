output "arn" {
  description = "ARN of the issued certificate, for the load balancer's listener."
  value       = aws_acm_certificate_validation.this.certificate_arn
}

output "validated_names" {
  description = "Names validated by records of this module, for the roots of other regions; available once the records exist."
  value       = keys(aws_route53_record.proof)
}
