mock_provider "aws" {
  mock_resource "aws_acm_certificate" {
    defaults = {
      arn = "arn:aws:acm:eu-west-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"
      domain_validation_options = [
        { domain_name = "api.example.com", resource_record_name = "_1.api.example.com", resource_record_type = "CNAME", resource_record_value = "_1.acm-validations.aws" },
        { domain_name = "api-auto.example.com", resource_record_name = "_2.api-auto.example.com", resource_record_type = "CNAME", resource_record_value = "_2.acm-validations.aws" },
      ]
    }
  }
}

variables {
  name         = "causeway-test"
  zone_id      = "Z0123456789ABCDEFGHIJ"
  domain_names = ["api.example.com", "api-auto.example.com"]
}

run "each_name_is_proved" {
  command = apply

  assert {
    condition     = aws_acm_certificate.this.domain_name == "api.example.com" && aws_acm_certificate.this.subject_alternative_names == toset(["api-auto.example.com"])
    error_message = "the certificate has all names"
  }

  assert {
    condition     = { for k, r in aws_route53_record.proof : k => one(r.records) } == { "api.example.com" = "_1.acm-validations.aws", "api-auto.example.com" = "_2.acm-validations.aws" }
    error_message = "each name has its own proof"
  }

  assert {
    condition     = output.arn == aws_acm_certificate.this.arn
    error_message = "the listener gets the certificate"
  }
}

run "name_with_capitals" {
  command = plan
  variables {
    name = "Causeway"
  }
  expect_failures = [var.name]
}

run "no_names" {
  command = plan
  variables {
    domain_names = []
  }
  expect_failures = [var.domain_names]
}

run "wildcard" {
  command = plan
  variables {
    domain_names = ["*.example.com"]
  }
  expect_failures = [var.domain_names]
}
