data "aws_region" "this" {}

data "aws_caller_identity" "this" {}

locals {
  container = "api"
  port      = 8080
  # Apart from the API's, so that no load balancer publishes the metrics.
  metrics_port = 9090
  region       = data.aws_region.this.region
  account      = data.aws_caller_identity.this.account_id

  is_blue_green = var.deployment == "blue-green"
  alarm_actions = compact([var.alarm_topic_arn])
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/ecs/${var.name}-api"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn

  lifecycle {
    precondition {
      condition     = strcontains(var.kms_key_arn, ":kms:${local.region}:")
      error_message = "`kms_key_arn` is ${var.kms_key_arn}, and the service is in ${local.region}: name a key of this region."
    }
  }
}
