mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name         = "causeway-test"
  alarm_emails = ["oncall@example.com"]
  budget       = { monthly_usd = 400, emails = ["owner@example.com"] }
  instances    = { eu-west-1a-1 = "i-0123456789abcdef0", eu-west-1b-1 = "i-0123456789abcdef1" }
  replication  = [{ bucket = "causeway-test-backup-a", destination = "causeway-test-backup-b", rule = "to-eu-central-1" }]
  bucket_sizes = { backup = { bucket = "causeway-test-backup-a", alarm_gib = 60 } }
  load_balancers = {
    api = { arn_suffix = "app/example/0123456789abcdef" }
  }
  kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
}

run "each_alarm_notifies_the_topic" {
  command = plan

  assert {
    condition = alltrue([
      for it in concat(
        values(aws_cloudwatch_metric_alarm.instance), values(aws_cloudwatch_metric_alarm.replication_latency),
        values(aws_cloudwatch_metric_alarm.replication_failed), values(aws_cloudwatch_metric_alarm.unanswered),
        values(aws_cloudwatch_metric_alarm.bucket_size)
      ) : it.alarm_actions == toset([aws_sns_topic.alarms.arn]) && it.ok_actions == toset([aws_sns_topic.alarms.arn])
    ])
    error_message = "every alarm must be told to the topic, and also when it is over"
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.instance) == 2 && length(aws_cloudwatch_metric_alarm.replication_latency) == 1 && length(aws_cloudwatch_metric_alarm.replication_failed) == 1 && length(aws_cloudwatch_metric_alarm.unanswered) == 1
    error_message = "every node, rule and load balancer must have its alarms"
  }

  assert {
    condition = { for name, it in {
      instance            = aws_cloudwatch_metric_alarm.instance["eu-west-1a-1"]
      replication_latency = aws_cloudwatch_metric_alarm.replication_latency["0"]
      replication_failed  = aws_cloudwatch_metric_alarm.replication_failed["0"]
      unanswered          = aws_cloudwatch_metric_alarm.unanswered["api"]
      bucket_size         = aws_cloudwatch_metric_alarm.bucket_size["backup"]
      } : name => "${it.metric_name} ${it.comparison_operator} ${it.threshold}, ${it.evaluation_periods} times ${it.period} s" } == {
      instance            = "StatusCheckFailed GreaterThanThreshold 0, 2 times 60 s"
      replication_latency = "ReplicationLatency GreaterThanThreshold ${var.replication_latency_seconds}, 5 times 60 s"
      replication_failed  = "OperationsFailedReplication GreaterThanThreshold 0, 1 times 300 s"
      unanswered          = "HTTPCode_ELB_5XX_Count GreaterThanThreshold 10, 3 times 60 s"
      bucket_size         = "BucketSizeBytes GreaterThanThreshold 64424509440, 1 times 86400 s"
    }
    error_message = "an alarm must fire as its README states"
  }

  assert {
    condition     = alltrue([for it in aws_cloudwatch_metric_alarm.instance : it.treat_missing_data == "breaching"])
    error_message = "a silent node must raise an alarm"
  }

  # CloudWatch has no such metric for other dimensions, and an alarm without a metric never fires.
  assert {
    condition = { for name, it in {
      instance            = aws_cloudwatch_metric_alarm.instance["eu-west-1a-1"]
      replication_latency = aws_cloudwatch_metric_alarm.replication_latency["0"]
      replication_failed  = aws_cloudwatch_metric_alarm.replication_failed["0"]
      unanswered          = aws_cloudwatch_metric_alarm.unanswered["api"]
      bucket_size         = aws_cloudwatch_metric_alarm.bucket_size["backup"]
      } : name => "${it.namespace} ${jsonencode(it.dimensions)}" } == {
      instance            = "AWS/EC2 ${jsonencode({ InstanceId = "i-0123456789abcdef0" })}"
      replication_latency = "AWS/S3 ${jsonencode({ SourceBucket = "causeway-test-backup-a", DestinationBucket = "causeway-test-backup-b", RuleId = "to-eu-central-1" })}"
      replication_failed  = "AWS/S3 ${jsonencode({ SourceBucket = "causeway-test-backup-a", DestinationBucket = "causeway-test-backup-b", RuleId = "to-eu-central-1" })}"
      unanswered          = "AWS/ApplicationELB ${jsonencode({ LoadBalancer = "app/example/0123456789abcdef" })}"
      bucket_size         = "AWS/S3 ${jsonencode({ BucketName = "causeway-test-backup-a", StorageType = "StandardStorage" })}"
    }
    error_message = "an alarm must have the namespace and the dimensions of its metric"
  }
}

run "the_topic_is_closed" {
  command = plan

  assert {
    condition     = aws_sns_topic.alarms.kms_master_key_id == var.kms_key_arn
    error_message = "messages must be encrypted with the given key"
  }

  assert {
    condition     = one([for it in data.aws_iam_policy_document.alarms.statement : one(it.condition).values if it.sid == "PublishFromThisAccount"]) == tolist(["123456789012"])
    error_message = "only this account's services may publish"
  }

  assert {
    condition     = one([for it in data.aws_iam_policy_document.alarms.statement : length(it.condition == null ? [] : it.condition) if contains(flatten([for p in it.principals : p.identifiers]), "events.amazonaws.com")]) == 0
    error_message = "EventBridge fulfils no condition, so one would silence it"
  }

  assert {
    condition = toset(flatten([
      for it in data.aws_iam_policy_document.alarms.statement : [for p in it.principals : [for who in p.identifiers : "${p.type} ${who}"]] if it.effect != "Deny"
    ])) == toset(["Service budgets.amazonaws.com", "Service cloudwatch.amazonaws.com", "Service events.amazonaws.com"])
    error_message = "only services that tell of this account may publish"
  }

  assert {
    condition     = one([for it in data.aws_iam_policy_document.alarms.statement : it.effect if it.sid == "RefuseWithoutTls"]) == "Deny"
    error_message = "publishing without TLS must be denied"
  }
}

run "health_events_are_sent_and_kept" {
  command = plan

  assert {
    condition     = length(aws_cloudwatch_event_rule.health) == 2 && jsondecode(aws_cloudwatch_event_rule.health["stopped"].event_pattern).detail.instance-id == ["i-0123456789abcdef0", "i-0123456789abcdef1"]
    error_message = "a node that stops must be told, and only of these nodes"
  }

  assert {
    condition     = aws_cloudwatch_log_group.health_events.retention_in_days == 365 && aws_cloudwatch_log_group.health_events.kms_key_id == var.kms_key_arn
    error_message = "the log group must be encrypted, with a retention"
  }

  # EventBridge names its rule in PutLogEvents only: a condition on CreateLogStream would leave the group empty.
  assert {
    condition = { for statement in data.aws_iam_policy_document.health_events.statement : join(" ", statement.actions) => length(statement.condition == null ? [] : statement.condition) } == {
      "logs:CreateLogStream" = 0, "logs:PutLogEvents" = 1
    }
    error_message = "EventBridge must be able to create its log stream, which names no rule, and only this account's rules may write"
  }
}

run "the_budget_warns_before_it_is_spent" {
  command = plan

  assert {
    condition     = aws_budgets_budget.this[0].limit_amount == "400" && length(aws_budgets_budget.this[0].notification) == 2
    error_message = "the budget must warn by what is spent, and by what will be"
  }

  assert {
    condition = { for it in aws_budgets_budget.this[0].notification : it.notification_type => it.threshold } == { ACTUAL = 80, FORECASTED = 100 } && alltrue([
      for it in aws_budgets_budget.this[0].notification : it.subscriber_email_addresses == toset(["owner@example.com"]) && it.subscriber_sns_topic_arns == toset([aws_sns_topic.alarms.arn])
    ])
    error_message = "the budget must notify at 80 percent and when the forecast exceeds it"
  }

  assert {
    condition     = endswith(aws_budgets_budget.this[0].name, "-eu-west-1")
    error_message = "the other region's budget must not have this name"
  }
}

run "a_region_without_budget_and_load_balancer" {
  command = plan

  variables {
    budget         = null
    load_balancers = {}
    instances      = {}
    replication    = []
  }

  assert {
    condition     = length(aws_budgets_budget.this) == 0 && length(aws_cloudwatch_metric_alarm.unanswered) == 0 && length(aws_cloudwatch_event_rule.health) == 1
    error_message = "what is not there must not be watched"
  }
}
