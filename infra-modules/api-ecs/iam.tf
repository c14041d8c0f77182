# ECS starts a task with its execution role, which reads the secrets; the containers have the task role, without
# permissions: the API calls no AWS service. The service's execution role cannot read the owner's password.

data "aws_iam_policy_document" "assume_task" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:aws:ecs:${local.region}:${local.account}:*"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

resource "aws_iam_role" "task" {
  name                 = "${var.name}-api-${local.region}"
  description          = "Running API of ${var.name} in ${local.region}"
  assume_role_policy   = data.aws_iam_policy_document.assume_task.json
  permissions_boundary = var.permissions_boundary
}

resource "aws_iam_role" "execution" {
  for_each = local.secrets

  name                 = "${var.name}-api-${each.key}-start-${local.region}"
  description          = "Starts the ${each.key} of the API of ${var.name} in ${local.region}"
  assume_role_policy   = data.aws_iam_policy_document.assume_task.json
  permissions_boundary = var.permissions_boundary
}

resource "aws_iam_role_policy" "execution" {
  for_each = local.secrets

  name   = "start"
  role   = aws_iam_role.execution[each.key].name
  policy = data.aws_iam_policy_document.execution[each.key].json
}

locals {
  # The image's repository, if it is in ECR.
  ecr          = try(regex("^([0-9]{12})\\.dkr\\.ecr\\.([a-z0-9-]+)\\.amazonaws\\.com/([^:@]+)", var.image), null)
  repositories = local.ecr == null ? [] : ["arn:aws:ecr:${local.ecr[1]}:${local.ecr[0]}:repository/${local.ecr[2]}"]
}

data "aws_iam_policy_document" "execution" {
  for_each = local.secrets

  dynamic "statement" {
    for_each = length(local.repositories) > 0 ? [local.repositories] : []
    content {
      sid       = "PullImage"
      actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
      resources = statement.value
    }
  }

  # The action has no resource-level permissions.
  dynamic "statement" {
    for_each = length(local.repositories) > 0 ? [1] : []
    content {
      sid       = "LogInToRegistry"
      actions   = ["ecr:GetAuthorizationToken"]
      resources = ["*"]
    }
  }

  statement {
    sid       = "WriteLog"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this.arn}:log-stream:*"]
  }

  statement {
    sid       = "ReadSecrets"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = values(each.value)
  }

  statement {
    sid       = "DecryptSecrets"
    actions   = ["kms:Decrypt"]
    resources = concat([var.kms_key_arn], var.secret_kms_key_arns)
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["secretsmanager.${local.region}.amazonaws.com"]
    }
  }
}

# Permissions of ECS to shift traffic from one target group to the other.

data "aws_iam_policy_document" "assume_deployment" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

data "aws_iam_policy_document" "deployment" {
  count = local.is_blue_green ? 1 : 0

  statement {
    sid       = "RegisterTargets"
    actions   = ["elasticloadbalancing:RegisterTargets", "elasticloadbalancing:DeregisterTargets"]
    resources = [for it in aws_lb_target_group.this : it.arn]
  }

  statement {
    sid       = "MoveRequests"
    actions   = ["elasticloadbalancing:ModifyRule"]
    resources = [aws_lb_listener_rule.blue_green[0].arn]
  }

  # The actions have no resource-level permissions.
  statement {
    sid = "SeeWhereRequestsGo"
    actions = [
      "elasticloadbalancing:DescribeListeners", "elasticloadbalancing:DescribeRules",
      "elasticloadbalancing:DescribeTargetGroups", "elasticloadbalancing:DescribeTargetHealth",
    ]
    resources = ["*"]
  }
}

resource "aws_iam_role" "deployment" {
  count = local.is_blue_green ? 1 : 0

  name                 = "${var.name}-api-deployment-${local.region}"
  description          = "Shifts traffic in deployments of the API of ${var.name} in ${local.region}"
  assume_role_policy   = data.aws_iam_policy_document.assume_deployment.json
  permissions_boundary = var.permissions_boundary
}

resource "aws_iam_role_policy" "deployment" {
  count = local.is_blue_green ? 1 : 0

  name   = "move-requests"
  role   = aws_iam_role.deployment[0].name
  policy = data.aws_iam_policy_document.deployment[0].json
}
