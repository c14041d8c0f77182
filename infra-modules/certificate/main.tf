resource "aws_acm_certificate" "this" {
  domain_name               = var.domain_names[0]
  subject_alternative_names = slice(var.domain_names, 1, length(var.domain_names))
  validation_method         = "DNS"

  tags = { Name = "${var.name}-api" }

  # A listener never points at a certificate that is gone.
  lifecycle {
    create_before_destroy = true
  }
}

# A name's proof is the same in each region of an account, so two roots may write the same record.
resource "aws_route53_record" "proof" {
  for_each = toset(var.domain_names)

  zone_id         = var.zone_id
  name            = one([for it in aws_acm_certificate.this.domain_validation_options : it.resource_record_name if it.domain_name == each.key])
  type            = one([for it in aws_acm_certificate.this.domain_validation_options : it.resource_record_type if it.domain_name == each.key])
  records         = [one([for it in aws_acm_certificate.this.domain_validation_options : it.resource_record_value if it.domain_name == each.key])]
  ttl             = 300
  allow_overwrite = true
}

resource "aws_acm_certificate_validation" "this" {
  certificate_arn         = aws_acm_certificate.this.arn
  validation_record_fqdns = [for record in aws_route53_record.proof : record.fqdn]
}
