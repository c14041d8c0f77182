resource "aws_acm_certificate" "this" {
  domain_name               = var.domain_names[0]
  subject_alternative_names = slice(var.domain_names, 1, length(var.domain_names))
  validation_method         = "DNS"

  tags = { Name = "${var.name}-api" }

  # A listener must never reference a deleted certificate.
  lifecycle {
    create_before_destroy = true
  }
}

# A name has one validation record for all regions of an account. The root that owns the name writes it.
resource "aws_route53_record" "proof" {
  for_each = toset(coalesce(var.owned_names, var.domain_names))

  zone_id = var.zone_id
  name    = one([for it in aws_acm_certificate.this.domain_validation_options : it.resource_record_name if it.domain_name == each.key])
  type    = one([for it in aws_acm_certificate.this.domain_validation_options : it.resource_record_type if it.domain_name == each.key])
  records = [one([for it in aws_acm_certificate.this.domain_validation_options : it.resource_record_value if it.domain_name == each.key])]
  ttl     = 300
}

# Waits until every name is validated, by any root's record.
resource "aws_acm_certificate_validation" "this" {
  certificate_arn         = aws_acm_certificate.this.arn
  validation_record_fqdns = [for it in aws_acm_certificate.this.domain_validation_options : it.resource_record_name]

  depends_on = [aws_route53_record.proof]
}
