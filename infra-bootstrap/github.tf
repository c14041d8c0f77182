# Roles for GitHub Actions. A workflow presents an OIDC token signed by GitHub, and gets credentials for an
# hour; GitHub stores no key. The roles are below the path /pipeline/, which no role may change.

resource "aws_iam_openid_connect_provider" "github" {
  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
}

locals {
  # `owner/name` and `owner@<id>/name@<id>`: a repository created, renamed or transferred since 15 July 2026 has the
  # second in its tokens, and an older one the first until it opts in. GitHub gives the first to no new repository,
  # so the next owner of a free name gets no token with it.
  repository = replace(var.repository, "/@[0-9]+/", "")
  with_ids = var.repository_ids == null ? var.repository : format(
    "%s@%d/%s@%d", split("/", local.repository)[0], var.repository_ids.owner, split("/", local.repository)[1], var.repository_ids.repository,
  )

  # The claim that identifies the jobs of each role. An environment's three acting roles have one GitHub environment
  # each, so a job that is let into one gets none of the others.
  contexts = merge(
    {
      plan  = "pull_request"
      drift = "ref:refs/heads/main"
      drill = "environment:restore-drill"
      push  = "environment:release"
    },
    { for e in var.environments : "apply-${e}" => "environment:${e}-infra" },
    { for e in var.environments : "deploy-${e}" => "environment:${e}" },
    { for e in var.environments : "operate-${e}" => "environment:${e}-hosts" },
  )

  # A release waits for a migration, and for up to three rollouts, each with its bake time: deploy-environment.yml.
  deploy_session = 7200

  subjects = { for role, context in local.contexts : role => [for repository in [local.repository, local.with_ids] : "repo:${repository}:${context}"] }
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
      values   = each.value
    }
  }
}

resource "aws_iam_role" "pipeline" {
  for_each = local.subjects

  name                 = "${var.project}-${each.key}"
  path                 = "/pipeline/"
  description          = "Assumed by GitHub Actions as ${each.value[0]}"
  assume_role_policy   = data.aws_iam_policy_document.trust[each.key].json
  permissions_boundary = aws_iam_policy.pipeline_boundary.arn
  max_session_duration = startswith(each.key, "deploy-") ? local.deploy_session : 3600
}
