output "arn" {
  description = "The certificate, once it is issued; for the load balancer's listener."
  value       = aws_acm_certificate_validation.this.certificate_arn
}
