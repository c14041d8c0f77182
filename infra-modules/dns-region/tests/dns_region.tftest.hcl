mock_provider "aws" {
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:us-east-1:123456789012:causeway-test-health-check-primary" }
  }
}

variables {
  name           = "causeway-test"
  role           = "SECONDARY"
  public_zone_id = "Z0PUBLIC"
  record_name    = "api-auto.example.com"
  regional_name  = "api-eu-central-1.example.com"
  api            = { dns_name = "api-2.eu-central-1.elb.amazonaws.com", zone_id = "Z0ELB" }
  private_zone   = { id = "Z0PRIVATE", vpc_id = "vpc-0b", region = "eu-central-1" }
}

run "region_joins_both_zones" {
  command = apply

  assert {
    condition     = aws_route53_zone_association.this[0].zone_id == "Z0PRIVATE" && aws_route53_zone_association.this[0].vpc_region == "eu-central-1"
    error_message = "The region's VPC must see the private zone."
  }
  assert {
    condition     = aws_route53_health_check.this[0].type == "HTTPS" && aws_route53_health_check.this[0].resource_path == "/readyz" && aws_route53_health_check.this[0].port == 443
    error_message = "The health check must ask for what needs a writable database."
  }
  assert {
    condition = (
      aws_route53_record.this[0].failover_routing_policy[0].type == "SECONDARY" && aws_route53_record.this[0].set_identifier == "secondary" &&
      aws_route53_record.this[0].health_check_id == aws_route53_health_check.this[0].id && aws_route53_record.this[0].alias[0].evaluate_target_health
    )
    error_message = "The record must fail over by the health check."
  }
}

run "region_of_the_zone_needs_no_association" {
  command = plan

  variables {
    role         = "PRIMARY"
    private_zone = null
  }

  assert {
    condition     = length(aws_route53_zone_association.this) == 0 && aws_route53_record.this[0].failover_routing_policy[0].type == "PRIMARY"
    error_message = "Without a private zone, only the record is made."
  }
}

run "refuses_an_unknown_role" {
  command         = plan
  expect_failures = [var.role]

  variables {
    role = "primary"
  }
}

run "refuses_a_record_that_is_not_a_full_name" {
  command         = plan
  expect_failures = [var.record_name]

  variables {
    record_name = "api-auto"
  }
}

run "refuses_a_path_that_is_none" {
  command         = plan
  expect_failures = [var.health_check]

  variables {
    health_check = { path = "readyz" }
  }
}

run "refuses_an_interval_that_route_53_does_not_have" {
  command         = plan
  expect_failures = [var.health_check]

  variables {
    health_check = { interval_seconds = 5 }
  }
}

run "refuses_a_threshold_that_route_53_does_not_have" {
  command         = plan
  expect_failures = [var.health_check]

  variables {
    health_check = { failure_threshold = 11 }
  }
}

run "refuses_a_wrong_name" {
  command         = plan
  expect_failures = [var.name]

  variables {
    name = "causeway test"
  }
}

run "a_name_stays_with_the_region" {
  command = plan

  assert {
    condition     = one(aws_route53_record.region).name == "api-eu-central-1.example.com" && length(one(aws_route53_record.region).failover_routing_policy) == 0
    error_message = "the regional name points at its own region only"
  }
}

run "refuses_a_regional_name_that_is_not_a_full_name" {
  command         = plan
  expect_failures = [var.regional_name]

  variables {
    regional_name = "api-eu-central-1"
  }
}

run "without_an_api_only_the_vpc_is_added" {
  command = plan

  variables {
    api = null
  }

  assert {
    condition     = length(aws_route53_zone_association.this) == 1 && length(aws_route53_record.this) == 0 && length(aws_route53_record.region) == 0 && length(aws_route53_health_check.this) == 0
    error_message = "the nodes see the private zone, and nothing is checked"
  }
}

run "failed_health_check_then_a_mail" {
  command = apply

  variables {
    role         = "PRIMARY"
    private_zone = null
    alarm_emails = ["oncall@example.com"]
  }

  assert {
    condition = (
      aws_cloudwatch_metric_alarm.health_check[0].region == "us-east-1" && aws_cloudwatch_metric_alarm.health_check[0].metric_name == "HealthCheckStatus" &&
      aws_cloudwatch_metric_alarm.health_check[0].dimensions == tomap({ HealthCheckId = aws_route53_health_check.this[0].id })
    )
    error_message = "The alarm must watch this health check, whose metrics are in us-east-1."
  }
  assert {
    condition = (
      aws_sns_topic.health_check[0].region == "us-east-1" && aws_cloudwatch_metric_alarm.health_check[0].alarm_actions == toset([aws_sns_topic.health_check[0].arn]) &&
      [for address, subscription in aws_sns_topic_subscription.health_check : "${subscription.region} ${subscription.endpoint}"] == ["us-east-1 oncall@example.com"]
    )
    error_message = "The alarm must notify its addresses, through a topic of its own region."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.health_check[0].comparison_operator == "LessThanThreshold" && aws_cloudwatch_metric_alarm.health_check[0].threshold == 1 && aws_cloudwatch_metric_alarm.health_check[0].treat_missing_data == "breaching"
    error_message = "A failed check, and one that reports nothing, must raise the alarm."
  }
}

run "no_address_then_no_alarm" {
  command = plan

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.health_check) == 0 && length(aws_sns_topic.health_check) == 0
    error_message = "Without an address there is nobody to tell."
  }
}

run "refuses_an_address_that_is_none" {
  command         = plan
  expect_failures = [var.alarm_emails]

  variables {
    alarm_emails = ["oncall"]
  }
}

run "refuses_half_a_failure" {
  command         = plan
  expect_failures = [var.health_check]

  variables {
    health_check = { failure_threshold = 2.5 }
  }
}

run "refuses_a_name_with_two_hyphens" {
  command         = plan
  expect_failures = [var.name]

  variables {
    name = "causeway--test"
  }
}
