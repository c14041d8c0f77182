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

run "each_name_is_validated" {
  command = apply

  assert {
    condition     = aws_acm_certificate.this.domain_name == "api.example.com" && aws_acm_certificate.this.subject_alternative_names == toset(["api-auto.example.com"])
    error_message = "the certificate has all names"
  }

  assert {
    condition     = { for k, r in aws_route53_record.proof : k => one(r.records) } == { "api.example.com" = "_1.acm-validations.aws", "api-auto.example.com" = "_2.acm-validations.aws" }
    error_message = "each name has its own validation record"
  }

  assert {
    condition     = aws_acm_certificate_validation.this.validation_record_fqdns == toset(["_1.api.example.com", "_2.api-auto.example.com"])
    error_message = "the certificate is issued when all names are validated"
  }

  assert {
    condition     = output.arn == aws_acm_certificate.this.arn
    error_message = "the listener gets the certificate"
  }
}

run "another_roots_name_uses_its_record" {
  command = apply
  variables {
    owned_names = ["api-auto.example.com"]
  }

  assert {
    condition     = keys(aws_route53_record.proof) == ["api-auto.example.com"] && output.validated_names == ["api-auto.example.com"]
    error_message = "a record is written by the root that owns the name, and by no other"
  }

  assert {
    condition     = aws_acm_certificate.this.subject_alternative_names == toset(["api-auto.example.com"]) && aws_acm_certificate_validation.this.validation_record_fqdns == toset(["_1.api.example.com", "_2.api-auto.example.com"])
    error_message = "the certificate has all names all the same, and waits for all"
  }
}

run "a_root_that_owns_no_name" {
  command = plan
  variables {
    owned_names = []
  }

  assert {
    condition     = length(aws_route53_record.proof) == 0
    error_message = "no record is written for names of others"
  }
}

run "owned_name_not_in_domain_names" {
  command = plan
  variables {
    owned_names = ["api-eu-central-1.example.com"]
  }
  expect_failures = [var.owned_names]
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
