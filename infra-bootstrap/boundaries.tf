# Permissions boundaries: they grant nothing, and cap what can be granted. So they name whole services.

locals {
  regions = values(var.regions)
  names   = { for e in var.environments : e => "${var.project}-${e}" }

  boundary_arn           = "${local.arn}:iam::${local.account}:policy/boundary"
  workload_boundary_arns = { for e, name in local.names : e => "${local.boundary_arn}/${name}-workload" }

  # Names in an environment's zones; and those of other environments, unless they are above its own.
  record_names = { for e, zones in var.dns_zones : e => sort(flatten([for zone in zones : [zone, "*.${zone}"]])) }
  foreign_record_names = {
    for e, zones in var.dns_zones : e => sort(flatten([
      for other, theirs in var.dns_zones : [
        for zone in theirs : [zone, "*.${zone}"] if !anytrue([for own in zones : endswith(own, ".${zone}")])
      ] if other != e
    ]))
  }
  foreign_names = { for e in var.environments : e => [for other in var.environments : local.names[other] if other != e] }
}

# Zones of another environment below this one's, such as staging.example.com below example.com: neither `apply` nor a workload
# changes their records.
data "aws_iam_policy_document" "no_record_of_another" {
  for_each = { for e, names in local.foreign_record_names : e => names if length(names) > 0 }

  statement {
    sid       = "NoRecordOfAnother"
    effect    = "Deny"
    actions   = ["route53:ChangeResourceRecordSets"]
    resources = ["*"]

    condition {
      test     = "ForAnyValue:StringLike"
      variable = "route53:ChangeResourceRecordSetsNormalizedRecordNames"
      values   = each.value
    }
  }
}

locals {
  no_record_of_another = { for e in var.environments : e => [for other, document in data.aws_iam_policy_document.no_record_of_another : document.json if other == e] }
}

# Boundary of the pipelines' own roles.

data "aws_iam_policy_document" "pipeline_boundary" {
  # checkov:skip=CKV_AWS_107: a boundary grants nothing
  # checkov:skip=CKV_AWS_108: as above
  # checkov:skip=CKV_AWS_109: as above
  # checkov:skip=CKV_AWS_110: as above
  # checkov:skip=CKV_AWS_111: as above
  # checkov:skip=CKV_AWS_356: as above
  # checkov:skip=CKV2_AWS_40: as above
  statement {
    sid = "MaximumPermissions"
    actions = [
      "acm:*", "application-autoscaling:*", "budgets:*", "cloudwatch:*", "ec2:*", "ec2-instance-connect:*", "ec2messages:*", "ecr:*", "ecs:*", "eks:*", "elasticache:*",
      "elasticloadbalancing:*", "events:*", "iam:*", "kms:*", "logs:*", "route53:*", "route53resolver:*", "s3:*", "secretsmanager:*", "sns:*", "ssm:*", "ssmmessages:*", "vpce:*", "wafv2:*",
    ]
    resources = ["*"]
  }

  statement {
    sid    = "NotItsOwnLimits"
    effect = "Deny"
    actions = [
      "iam:AttachRolePolicy", "iam:CreatePolicyVersion", "iam:CreateRole", "iam:DeletePolicy", "iam:DeletePolicyVersion", "iam:DeleteRole", "iam:DeleteRolePolicy", "iam:DetachRolePolicy",
      "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy", "iam:SetDefaultPolicyVersion", "iam:UpdateAssumeRolePolicy", "iam:UpdateRole",
    ]
    resources = concat(["${local.boundary_arn}/*"], [for kind in ["policy", "role"] : "${local.arn}:iam::${local.account}:${kind}/pipeline/*"])
  }

  statement {
    sid       = "DenyBoundaryRemoval"
    effect    = "Deny"
    actions   = ["iam:DeleteRolePermissionsBoundary"]
    resources = ["*"]
  }

  statement {
    sid       = "NotTheStateItself"
    effect    = "Deny"
    actions   = ["s3:DeleteBucket*", "s3:PutBucket*", "s3:PutEncryptionConfiguration", "s3:PutLifecycleConfiguration"]
    resources = [aws_s3_bucket.state.arn, "${aws_s3_bucket.state.arn}/*"]
  }

  statement {
    sid       = "NotItsKey"
    effect    = "Deny"
    actions   = ["kms:DisableKey", "kms:PutKeyPolicy", "kms:ScheduleKeyDeletion"]
    resources = [aws_kms_key.state.arn]
  }

  # Backups are excluded too: the apply role could otherwise grant itself access in the bucket's policy.
  statement {
    sid       = "NoVersionIsDeleted"
    effect    = "Deny"
    actions   = ["s3:BypassGovernanceRetention", "s3:DeleteObjectVersion"]
    resources = ["*"]
  }

  # The pipelines write secret values and never read them; hosts and tasks do, and Ansible for the hosts.
  statement {
    sid       = "NoSecretIsRead"
    effect    = "Deny"
    actions   = ["secretsmanager:BatchGetSecretValue", "secretsmanager:GetSecretValue"]
    resources = ["*"]

    condition {
      test     = "ArnNotEquals"
      variable = "aws:PrincipalArn"
      values   = [for e in var.environments : "${local.arn}:iam::${local.account}:role/pipeline/${var.project}-operate-${e}"]
    }
  }
}

resource "aws_iam_policy" "pipeline_boundary" {
  # checkov:skip=CKV_AWS_286: a boundary grants nothing
  # checkov:skip=CKV_AWS_287: as above
  # checkov:skip=CKV_AWS_288: as above
  # checkov:skip=CKV_AWS_289: as above
  # checkov:skip=CKV_AWS_290: as above
  # checkov:skip=CKV_AWS_355: as above
  name        = "${var.project}-pipeline"
  path        = "/boundary/"
  description = "Maximum permissions of the pipelines' roles"
  policy      = data.aws_iam_policy_document.pipeline_boundary.json
}

# Boundary of an environment's workload roles: hosts, tasks, pods, and the services that act for them. `apply` writes
# their policies, so what it cannot reach itself they must not reach either.

data "aws_iam_policy_document" "workload_boundary" {
  # checkov:skip=CKV_AWS_107: a boundary grants nothing
  # checkov:skip=CKV_AWS_108: as above
  # checkov:skip=CKV_AWS_109: as above
  # checkov:skip=CKV_AWS_110: as above
  # checkov:skip=CKV_AWS_111: as above
  # checkov:skip=CKV_AWS_356: as above
  for_each = local.names

  source_policy_documents = local.no_record_of_another[each.key]

  statement {
    sid = "MaximumPermissions"
    actions = [
      "autoscaling:*", "cloudwatch:*", "ec2:*", "ec2messages:*", "ecr:*", "ecs:*", "eks:*", "eks-auth:*", "elasticloadbalancing:*", "kms:*", "logs:*",
      "route53:*", "s3:*", "secretsmanager:*", "sns:*", "ssm:*", "ssmmessages:*", "sts:*", "wafv2:*", "xray:*",
    ]
    resources = ["*"]
  }

  # Of the first load balancer of an account, for the AWS Load Balancer Controller of EKS.
  statement {
    sid       = "RoleOfLoadBalancing"
    actions   = ["iam:CreateServiceLinkedRole"]
    resources = ["${local.arn}:iam::${local.account}:role/aws-service-role/elasticloadbalancing.amazonaws.com/*"]

    condition {
      test     = "StringEquals"
      variable = "iam:AWSServiceName"
      values   = ["elasticloadbalancing.amazonaws.com"]
    }
  }

  statement {
    sid       = "NotTheState"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.state.arn, "${aws_s3_bucket.state.arn}/*"]
  }

  statement {
    sid       = "NoBucketIsChanged"
    effect    = "Deny"
    actions   = ["s3:BypassGovernanceRetention", "s3:DeleteBucket*", "s3:DeleteObjectVersion", "s3:PutBucket*", "s3:PutLifecycleConfiguration", "s3:PutReplicationConfiguration"]
    resources = ["*"]
  }

  statement {
    sid       = "NoOtherRole"
    effect    = "Deny"
    actions   = ["sts:AssumeRole"]
    resources = ["${local.arn}:iam::${local.account}:role/pipeline/*"]
  }

  statement {
    sid       = "NothingTaggedForAnother"
    effect    = "Deny"
    actions   = ["ec2:*", "elasticloadbalancing:*", "kms:*", "ssm:*", "ssmmessages:*"]
    resources = ["*"]

    condition {
      test     = "Null"
      variable = "aws:ResourceTag/environment"
      values   = ["false"]
    }

    condition {
      test     = "StringNotEquals"
      variable = "aws:ResourceTag/environment"
      values   = [each.key, "shared"]
    }
  }

  dynamic "statement" {
    for_each = length(local.foreign_names[each.key]) == 0 ? [] : [local.foreign_names[each.key]]

    content {
      sid     = "NothingNamedForAnother"
      effect  = "Deny"
      actions = ["ecs:*", "eks:*", "logs:*", "s3:*", "secretsmanager:*", "sns:*", "ssm:*"]
      resources = flatten([
        for name in statement.value : [
          "${local.arn}:ecs:*:${local.account}:*/${name}*", "${local.arn}:eks:*:${local.account}:*/${name}*", "${local.arn}:logs:*:${local.account}:log-group:*${name}*",
          "${local.arn}:s3:::${name}*", "${local.arn}:secretsmanager:*:${local.account}:secret:${name}*", "${local.arn}:sns:*:${local.account}:${name}*",
          "${local.arn}:ssm:*:${local.account}:parameter/${name}*",
        ]
      ])
    }
  }
}

resource "aws_iam_policy" "workload_boundary" {
  # checkov:skip=CKV_AWS_286: a boundary grants nothing
  # checkov:skip=CKV_AWS_287: as above
  # checkov:skip=CKV_AWS_288: as above
  # checkov:skip=CKV_AWS_289: as above
  # checkov:skip=CKV_AWS_290: as above
  # checkov:skip=CKV_AWS_355: as above
  for_each = local.names

  name        = "${each.value}-workload"
  path        = "/boundary/"
  description = "Maximum permissions of the workload roles of ${each.key}"
  policy      = data.aws_iam_policy_document.workload_boundary[each.key].json
}
