locals {
  rate_rules = var.waf_rate_limit == 0 ? [] : [{
    Name             = "rate"
    Priority         = 0
    Action           = { Block = {} }
    Statement        = { RateBasedStatement = { Limit = var.waf_rate_limit, AggregateKeyType = "IP" } }
    VisibilityConfig = { CloudWatchMetricsEnabled = true, SampledRequestsEnabled = true, MetricName = "rate" }
  }]
}

resource "aws_wafv2_web_acl" "this" {
  #checkov:skip=CKV_AWS_175: the rules are in `rule_json`, which checkov does not read
  #checkov:skip=CKV_AWS_192: AWSManagedRulesKnownBadInputsRuleSet is among them unless the caller leaves it out
  count = var.waf ? 1 : 0

  name        = "${var.name}-api"
  description = "WAF of the API of ${var.name}"
  scope       = "REGIONAL"

  default_action {
    allow {}
  }

  rule_json = jsonencode(concat(local.rate_rules, [
    for index, group in var.waf_rule_groups : {
      Name           = group.name
      Priority       = index + 1
      OverrideAction = { None = {} }
      Statement = {
        ManagedRuleGroupStatement = {
          VendorName          = "AWS"
          Name                = group.name
          RuleActionOverrides = [for rule in group.count : { Name = rule, ActionToUse = { Count = {} } }]
        }
      }
      VisibilityConfig = { CloudWatchMetricsEnabled = true, SampledRequestsEnabled = true, MetricName = group.name }
    }
  ]))

  visibility_config {
    cloudwatch_metrics_enabled = true
    sampled_requests_enabled   = true
    metric_name                = "${var.name}-api"
  }
}

resource "aws_wafv2_web_acl_association" "this" {
  count = var.waf ? 1 : 0

  web_acl_arn  = aws_wafv2_web_acl.this[0].arn
  resource_arn = aws_lb.this.arn
}

# WAF requires this prefix of the log group's name.
resource "aws_cloudwatch_log_group" "waf" {
  count = var.waf ? 1 : 0

  name              = "aws-waf-logs-${var.name}-api"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
}

resource "aws_wafv2_web_acl_logging_configuration" "this" {
  count = var.waf ? 1 : 0

  resource_arn            = aws_wafv2_web_acl.this[0].arn
  log_destination_configs = [aws_cloudwatch_log_group.waf[0].arn]

  redacted_fields {
    single_header {
      name = "authorization"
    }
  }
}
