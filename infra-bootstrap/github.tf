# Roles for GitHub Actions. A workflow presents an OIDC token signed by GitHub, and gets credentials for an
# hour; GitHub stores no key. The roles are below the path /pipeline/, which no role may change.

resource "aws_iam_openid_connect_provider" "github" {
  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
}

locals {
  # Claims of the job's token.
  subjects = merge(
    {
      plan  = "repo:${var.repository}:pull_request"
      drift = "repo:${var.repository}:ref:refs/heads/main"
      drill = "repo:${var.repository}:environment:restore-drill"
    },
    { for e in var.environments : "apply-${e}" => "repo:${var.repository}:environment:${e}" },
    { for e in var.environments : "deploy-${e}" => "repo:${var.repository}:environment:${e}" },
    { for e in var.environments : "operate-${e}" => "repo:${var.repository}:environment:${e}" },
  )
}

data "aws_iam_policy_document" "trust" {
  for_each = local.subjects

  statement {
    sid     = "GitHub"
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.github.arn]
    }

    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:sub"
      values   = [each.value]
    }
  }
}

resource "aws_iam_role" "pipeline" {
  for_each = local.subjects

  name                 = "${var.project}-${each.key}"
  path                 = "/pipeline/"
  description          = "Assumed by GitHub Actions as ${each.value}"
  assume_role_policy   = data.aws_iam_policy_document.trust[each.key].json
  permissions_boundary = aws_iam_policy.pipeline_boundary.arn
  max_session_duration = 3600
}
