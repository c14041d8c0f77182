mock_provider "aws" {
  source          = "./tests/mocks/aws"
  override_during = plan
}

variables {
  project      = "causeway"
  owner        = "platform-team"
  repository   = "octo-org@123456/octo-repo@456789"
  environments = ["staging", "production"]
  dns_zones = {
    staging    = ["staging.example.com", "staging.causeway.internal"]
    production = ["example.com", "causeway.internal"]
  }
}

run "state_is_kept_safely" {
  command = plan

  assert {
    condition     = aws_s3_bucket_versioning.state.versioning_configuration[0].status == "Enabled"
    error_message = "a damaged state must be recoverable"
  }

  assert {
    condition = alltrue([
      for r in aws_s3_bucket_server_side_encryption_configuration.state.rule : r.apply_server_side_encryption_by_default[0].sse_algorithm == "aws:kms"
    ])
    error_message = "the state is encrypted with its key"
  }

  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.state.block_public_acls, aws_s3_bucket_public_access_block.state.block_public_policy,
      aws_s3_bucket_public_access_block.state.ignore_public_acls, aws_s3_bucket_public_access_block.state.restrict_public_buckets,
    ])
    error_message = "the state is not public"
  }

  assert {
    condition     = aws_kms_key.state.enable_key_rotation
    error_message = "the key is rotated"
  }

  assert {
    condition     = one(data.aws_iam_policy_document.state_bucket.statement).effect == "Deny" && one(data.aws_iam_policy_document.state_bucket.statement).actions == toset(["s3:*"]) && length(one(data.aws_iam_policy_document.state_bucket.statement).resources) == 2 && one(one(data.aws_iam_policy_document.state_bucket.statement).condition).variable == "aws:SecureTransport"
    error_message = "the bucket answers over TLS only"
  }
}

run "each_role_is_bound_to_its_own_jobs" {
  command = plan

  assert {
    condition     = toset(keys(aws_iam_role.pipeline)) == toset(["plan", "drift", "drill", "push", "apply-staging", "apply-production", "deploy-staging", "deploy-production", "operate-staging", "operate-production"])
    error_message = "plan, drift, drill and push, and apply, deploy and operate of each environment"
  }

  assert {
    condition = { for k, d in data.aws_iam_policy_document.trust : k => one([for c in d.statement[0].condition : toset(c.values) if endswith(c.variable, ":sub")]) } == {
      for k, context in {
        plan               = "pull_request"
        drift              = "ref:refs/heads/main"
        drill              = "environment:restore-drill"
        push               = "environment:release"
        apply-staging      = "environment:staging-infra"
        deploy-staging     = "environment:staging"
        operate-staging    = "environment:staging-hosts"
        apply-production   = "environment:production-infra"
        deploy-production  = "environment:production"
        operate-production = "environment:production-hosts"
      } : k => toset(["repo:octo-org/octo-repo:${context}", "repo:octo-org@123456/octo-repo@456789:${context}"])
    }
    error_message = "a token of another job, branch or repository is rejected"
  }

  assert {
    condition     = alltrue([for d in data.aws_iam_policy_document.trust : alltrue([for c in d.statement[0].condition : c.test == "StringEquals"])])
    error_message = "claims are compared exactly, never by a pattern"
  }

  assert {
    condition = aws_iam_openid_connect_provider.github.client_id_list == toset(["sts.amazonaws.com"]) && alltrue([
      for d in data.aws_iam_policy_document.trust : contains([for c in d.statement[0].condition : "${c.variable} ${join(" ", c.values)}"], "token.actions.githubusercontent.com:aud sts.amazonaws.com")
    ])
    error_message = "a token for another audience is rejected"
  }

  assert {
    condition     = alltrue([for k, r in aws_iam_role.pipeline : r.max_session_duration == (startswith(k, "deploy-") ? 7200 : 3600) && r.path == "/pipeline/"])
    error_message = "credentials are good for an hour, and a release's for two; no role may change these"
  }

  assert {
    condition     = alltrue([for r in aws_iam_role.pipeline : r.permissions_boundary == aws_iam_policy.pipeline_boundary.arn])
    error_message = "each role has the permissions boundary"
  }
}

run "ids_beside_the_name_are_the_same" {
  command = plan

  variables {
    repository     = "octo-org/octo-repo"
    repository_ids = { owner = 123456, repository = 456789 }
  }

  assert {
    condition     = local.subjects["plan"] == ["repo:octo-org/octo-repo:pull_request", "repo:octo-org@123456/octo-repo@456789:pull_request"]
    error_message = "both forms of the subject are trusted, however the ids are given"
  }
}

run "one_job_reaches_one_role" {
  command = plan

  assert {
    condition     = length(distinct(values(local.contexts))) == length(local.contexts)
    error_message = "each role has a GitHub environment of its own: a job that is let into one gets no other role"
  }

  assert {
    condition = length(setintersection(
      flatten([for d in data.aws_iam_policy_document.deploy : [for s in d.statement : s.actions]]), ["ecr:GetAuthorizationToken", "ecr:PutImage", "ecr:UploadLayerPart"],
    )) == 0
    error_message = "deploy starts an image and pushes none"
  }

  assert {
    condition     = alltrue([for s in data.aws_iam_policy_document.push.statement : alltrue([for a in s.actions : startswith(a, "ecr:")])])
    error_message = "push pushes an image and starts none"
  }

  assert {
    condition = toset(keys(output.github_variables.environments)) == toset([
      "release", "restore-drill", "staging", "staging-infra", "staging-hosts", "production", "production-infra", "production-hosts",
    ])
    error_message = "the variables of each GitHub environment are an output"
  }
}

run "repository_without_ids" {
  command = plan
  variables {
    repository = "octo-org/octo-repo"
  }
  expect_failures = [var.repository]
}

run "repository_with_half_of_the_ids" {
  command = plan
  variables {
    repository = "octo-org@123456/octo-repo"
  }
  expect_failures = [var.repository]
}

run "repository_with_ids_twice" {
  command = plan
  variables {
    repository_ids = { owner = 123456, repository = 456789 }
  }
  expect_failures = [var.repository]
}

run "repository_of_the_example" {
  command = plan
  variables {
    repository     = "Example/causeway"
    repository_ids = { owner = 1, repository = 1 }
  }
  expect_failures = [var.repository]
}

run "ids_with_a_wildcard" {
  command = plan
  variables {
    repository = "octo-org@*/octo-repo@*"
  }
  expect_failures = [var.repository]
}

run "ids_that_are_none" {
  command = plan
  variables {
    repository     = "octo-org/octo-repo"
    repository_ids = { owner = 0, repository = 1.5 }
  }
  expect_failures = [var.repository_ids]
}

run "environments_that_reach_each_other" {
  command = plan
  variables {
    environments = ["prod", "prod-eu"]
    dns_zones    = { prod = ["example.com"], prod-eu = ["eu.example.com"] }
  }
  expect_failures = [var.environments]
}

run "environment_named_like_a_role_s" {
  command = plan
  variables {
    environments = ["test-infra"]
    dns_zones    = { test-infra = ["example.com"] }
  }
  expect_failures = [var.environments]
}

run "three_environments" {
  command = plan
  variables {
    environments = ["a", "b", "c"]
    dns_zones    = { a = ["a.example.com"], b = ["b.example.com"], c = ["c.example.com"] }
  }
  expect_failures = [var.environments]
}

run "environment_without_zones" {
  command = plan
  variables {
    dns_zones = { production = ["example.com"] }
  }
  expect_failures = [var.dns_zones]
}

run "zone_of_two_environments" {
  command = plan
  variables {
    dns_zones = { production = ["example.com", "causeway.internal"], staging = ["staging.example.com", "causeway.internal"] }
  }
  expect_failures = [var.dns_zones]
}

run "zone_with_a_wildcard" {
  command = plan
  variables {
    dns_zones = { production = ["*.example.com"], staging = ["staging.example.com"] }
  }
  expect_failures = [var.dns_zones]
}

run "environments_are_apart" {
  command = plan

  assert {
    condition = { for e, names in local.record_names : e => join(" ", names) } == {
      production = "*.causeway.internal *.example.com causeway.internal example.com"
      staging    = "*.staging.causeway.internal *.staging.example.com staging.causeway.internal staging.example.com"
    }
    error_message = "an environment's records are those of its zones"
  }

  assert {
    condition     = local.foreign_record_names.production == local.record_names.staging && length(local.foreign_record_names.staging) == 0
    error_message = "a zone of another environment below one's own is denied, and one above is not"
  }

  assert {
    condition = { for e, d in data.aws_iam_policy_document.no_record_of_another : e => [for s in d.statement : "${s.effect} ${one(s.actions)} ${one(s.condition).test} ${join(" ", one(s.condition).values)}"] } == {
      production = ["Deny route53:ChangeResourceRecordSets ForAnyValue:StringLike ${join(" ", local.record_names.staging)}"]
    }
    error_message = "the records of a zone below one's own are denied"
  }

  assert {
    condition = alltrue([
      for documents in [data.aws_iam_policy_document.apply_dns, data.aws_iam_policy_document.workload_boundary] :
      { for e, d in documents : e => length(d.source_policy_documents == null ? [] : d.source_policy_documents) } == { production = 1, staging = 0 }
    ])
    error_message = "neither apply nor a workload changes them"
  }

  assert {
    condition = alltrue([
      for e, d in data.aws_iam_policy_document.apply_dns : alltrue([
        for s in d.statement : s.resources == toset(["arn:aws:route53:::hostedzone/*"]) && { for c in s.condition : c.test => toset(c.values) } == {
          "ForAllValues:StringLike" = toset(local.record_names[e]), Null = toset(["false"])
        } if s.effect != "Deny" && contains(s.actions, "route53:ChangeResourceRecordSets")
      ])
    ])
    error_message = "apply changes records of its environment only"
  }

  assert {
    condition = alltrue([
      for e, d in data.aws_iam_policy_document.apply_storage : alltrue([
        for s in d.statement : contains([for c in s.condition : "${c.variable} ${one(c.values)}" if length(c.values) == 1], "aws:ResourceTag/environment ${e}")
        if s.effect != "Deny" && s.sid != "StateKey" && length(setintersection(s.actions, ["kms:CreateGrant", "kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"])) > 0
      ])
    ])
    error_message = "apply uses keys of its environment only"
  }

  assert {
    condition = alltrue([
      for d in data.aws_iam_policy_document.apply_storage : alltrue([
        for s in d.statement : contains(s.condition[*].variable, "kms:ViaService") if s.effect != "Deny" && s.sid != "StateKey" && contains(s.actions, "kms:Decrypt")
      ])
    ])
    error_message = "apply decrypts nothing itself"
  }

  assert {
    condition = alltrue(flatten([
      for documents in [data.aws_iam_policy_document.apply_compute, data.aws_iam_policy_document.deploy] : [
        for e, d in documents : [for s in d.statement : strcontains(join(" ", s.resources), ":task-definition/causeway-${e}") && !contains(s.resources, "*") if contains(s.actions, "ecs:RegisterTaskDefinition")]
      ]
    ]))
    error_message = "a task definition is registered in a family of the environment only"
  }

  # What apply may not do, it could otherwise let a role of its own making do.
  assert {
    condition = alltrue([
      for e, d in data.aws_iam_policy_document.workload_boundary :
      anytrue([for s in d.statement : contains(s.resources, "arn:aws:s3:::causeway-${e == "staging" ? "production" : "staging"}*") if s.effect == "Deny"]) &&
      !anytrue(flatten([for s in d.statement : [for r in s.resources : strcontains(r, "causeway-${e}")] if s.effect == "Deny"])) &&
      anytrue([for s in d.statement : anytrue([for c in s.condition : c.variable == "aws:ResourceTag/environment" && contains(c.values, e)]) if s.effect == "Deny" && contains(s.actions, "kms:*")])
    ])
    error_message = "a workload role reaches nothing of another environment"
  }

  assert {
    condition = alltrue([
      for e, d in data.aws_iam_policy_document.apply_identity : alltrue([
        for s in d.statement : alltrue([for c in s.condition : one(c.values) == "arn:aws:iam::123456789012:policy/boundary/causeway-${e}-workload" if c.variable == "iam:PermissionsBoundary"])
      ])
    ])
    error_message = "apply makes roles with the boundary of its environment"
  }
}

run "plan_and_drift_write_nothing" {
  command = plan

  assert {
    condition     = alltrue([for role in ["plan", "drift"] : [for a in local.attachments : a.policy if a.role == role] == ["read"]])
    error_message = "plan and drift have the reading policy and no other"
  }

  assert {
    condition = alltrue(flatten([
      for s in data.aws_iam_policy_document.read.statement : [for a in s.actions : can(regex(":(Describe|Get|List|View)|^kms:Decrypt$", a))]
    ]))
    error_message = "the reading policy reads"
  }

  assert {
    condition     = length(setintersection(flatten([for s in data.aws_iam_policy_document.read.statement : s.actions]), ["secretsmanager:GetSecretValue", "logs:GetLogEvents"])) == 0
    error_message = "no secret and no log is read"
  }

  assert {
    condition = length(setsubtract(
      ["eks:ListAssociatedAccessPolicies", "events:DescribeRule", "events:ListTargetsByRule", "logs:DescribeResourcePolicies", "secretsmanager:ListSecretVersionIds"],
      flatten([for s in data.aws_iam_policy_document.read.statement : s.actions]),
    )) == 0
    error_message = "a plan would end at the first refresh: this is what the provider asks for rules, access to EKS, and secrets whose value is write-only"
  }
}

run "grants_stay_within_the_boundary" {
  command = plan

  assert {
    condition = alltrue([
      for d in data.aws_iam_policy_document.apply_identity : alltrue([
        for s in d.statement : contains([for c in s.condition : c.variable], "iam:PermissionsBoundary") if contains(s.actions, "iam:CreateRole") || contains(s.actions, "iam:PutRolePolicy")
      ])
    ])
    error_message = "a role that is made must have the workload boundary"
  }

  assert {
    condition = alltrue(flatten([
      for documents in [data.aws_iam_policy_document.apply_compute, data.aws_iam_policy_document.apply_storage, data.aws_iam_policy_document.apply_dns, data.aws_iam_policy_document.apply_identity, data.aws_iam_policy_document.deploy, data.aws_iam_policy_document.operate, [data.aws_iam_policy_document.drill, data.aws_iam_policy_document.push]] : [
        for d in documents : [for s in d.statement : [for a in s.actions : !endswith(a, ":*") && a != "*"] if s.effect != "Deny"]
      ]
    ]))
    error_message = "no whole service is granted"
  }
}

run "roles_are_limited_to_an_environment" {
  command = plan

  variables {
    environments = ["production"]
    dns_zones    = { production = ["example.com", "causeway.internal"] }
  }

  assert {
    condition = alltrue([
      for s in flatten([
        for d in [
          data.aws_iam_policy_document.read, data.aws_iam_policy_document.apply_compute["production"], data.aws_iam_policy_document.apply_storage["production"], data.aws_iam_policy_document.apply_dns["production"],
          data.aws_iam_policy_document.apply_identity["production"], data.aws_iam_policy_document.deploy["production"], data.aws_iam_policy_document.operate["production"],
          data.aws_iam_policy_document.drill, data.aws_iam_policy_document.push,
        ] : d.statement
      ]) : contains(s.condition[*].variable, "aws:RequestedRegion") if s.effect != "Deny" && contains(s.resources, "*") && !contains(["GlobalSettings", "Zones"], s.sid)
    ])
    error_message = "what has no resource is limited to the regions, but for what has no region"
  }

  assert {
    condition = one([
      for s in data.aws_iam_policy_document.apply_compute["production"].statement :
      "${join(" ", sort(s.actions))}, ${join(" ", sort([for c in s.condition : "${c.test} ${c.variable} ${one(c.values)}"]))}" if s.effect == "Deny"
    ]) == "acm:* application-autoscaling:* ec2:* elasticloadbalancing:*, Null aws:ResourceTag/environment false StringNotEquals aws:ResourceTag/environment production"
    error_message = "what another environment has is not touched"
  }

  assert {
    condition = alltrue([
      for s in flatten([for d in [data.aws_iam_policy_document.apply_compute, data.aws_iam_policy_document.apply_storage, data.aws_iam_policy_document.apply_dns, data.aws_iam_policy_document.apply_identity] : d["production"].statement]) :
      length(setintersection(s.actions, ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"])) == 0 if !contains(["StateLock", "StateObjects"], s.sid)
    ])
    error_message = "who applies makes buckets, and reads, writes and deletes nothing in them but the state"
  }

  assert {
    condition = {
      for s in data.aws_iam_policy_document.pipeline_boundary.statement : s.sid => s.actions if s.effect == "Deny" && s.sid != "NotItsOwnLimits"
      } == {
      DenyBoundaryRemoval = toset(["iam:DeleteRolePermissionsBoundary"])
      NotTheStateItself   = toset(["s3:DeleteBucket*", "s3:PutBucket*", "s3:PutEncryptionConfiguration", "s3:PutLifecycleConfiguration"])
      NotItsKey           = toset(["kms:DisableKey", "kms:PutKeyPolicy", "kms:ScheduleKeyDeletion"])
      NoVersionIsDeleted  = toset(["s3:BypassGovernanceRetention", "s3:DeleteObjectVersion"])
      NoSecretIsRead      = toset(["secretsmanager:BatchGetSecretValue", "secretsmanager:GetSecretValue"])
    }
    error_message = "the boundary of the pipelines excludes changes of itself, the state, the locks and the secrets"
  }

  assert {
    condition = alltrue([
      for s in data.aws_iam_policy_document.pipeline_boundary.statement :
      length(setsubtract(["arn:aws:iam::123456789012:policy/pipeline/*", "arn:aws:iam::123456789012:role/pipeline/*"], s.resources)) == 0 &&
      length(setsubtract(["iam:AttachRolePolicy", "iam:CreatePolicyVersion", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy", "iam:UpdateAssumeRolePolicy"], s.actions)) == 0
      if s.sid == "NotItsOwnLimits"
    ])
    error_message = "no role of the pipelines changes one of them"
  }

  assert {
    condition = toset([for s in data.aws_iam_policy_document.workload_boundary["production"].statement : s.sid if s.effect == "Deny"]) == toset([
      "NoBucketIsChanged", "NoOtherRole", "NothingTaggedForAnother", "NotTheState",
    ])
    error_message = "the workload boundary excludes the state, the buckets' settings and the pipelines' roles"
  }
}

# What makes each kind of thing in infra-primary and infra-dr. A kind that is new there belongs here too.
run "apply_may_make_what_the_roots_hold" {
  command = plan

  variables {
    environments = ["production"]
    dns_zones    = { production = ["example.com", "causeway.internal"] }
  }

  assert {
    condition = length(setsubtract([
      "acm:RequestCertificate", "application-autoscaling:RegisterScalableTarget", "budgets:ModifyBudget", "cloudwatch:PutMetricAlarm", "ecs:CreateService",
      "ecs:RegisterTaskDefinition", "eks:AssociateAccessPolicy", "eks:CreateAddon", "eks:CreateNodegroup", "eks:CreatePodIdentityAssociation", "elasticache:CreateReplicationGroup",
      "events:PutRule", "events:PutTargets", "iam:CreateInstanceProfile", "iam:CreateOpenIDConnectProvider", "iam:CreateRole", "iam:PassRole", "kms:CreateGrant", "kms:CreateKey",
      "logs:CreateLogDelivery", "logs:CreateLogGroup", "logs:PutResourcePolicy", "route53:AssociateVPCWithHostedZone", "route53:CreateHealthCheck", "route53resolver:CreateFirewallRuleGroup", "s3:CreateBucket",
      "s3:PutBucketObjectLockConfiguration", "s3:PutReplicationConfiguration", "secretsmanager:ReplicateSecretToRegions", "sns:CreateTopic", "ssm:PutParameter", "vpce:AllowMultiRegion",
      "wafv2:CreateWebACL", "wafv2:PutLoggingConfiguration",
      ], flatten([
        for documents in [data.aws_iam_policy_document.apply_compute, data.aws_iam_policy_document.apply_storage, data.aws_iam_policy_document.apply_dns, data.aws_iam_policy_document.apply_identity] : [
          for it in documents["production"].statement : it.actions if it.effect != "Deny"
        ]
    ]))) == 0
    error_message = "an apply would fail half-way for a missing permission"
  }

  assert {
    condition = length(setsubtract(
      distinct([
        for action in flatten([
          for documents in [data.aws_iam_policy_document.apply_compute, data.aws_iam_policy_document.apply_storage, data.aws_iam_policy_document.apply_dns, data.aws_iam_policy_document.apply_identity, data.aws_iam_policy_document.deploy, data.aws_iam_policy_document.operate, { production = data.aws_iam_policy_document.drill }] : [
            for it in documents["production"].statement : it.actions
          ]
        ]) : split(":", action)[0]
      ]),
      [for action in one([for it in data.aws_iam_policy_document.pipeline_boundary.statement : it.actions if it.sid == "MaximumPermissions"]) : split(":", action)[0]],
    )) == 0
    error_message = "permissions of a role must be within its boundary, or they have no effect"
  }

  # EC2's alarm actions, load balancers, containers and caches each have a role of their service, which the first one makes.
  assert {
    condition = length(setsubtract(
      ["ecs.amazonaws.com", "elasticache.amazonaws.com", "elasticloadbalancing.amazonaws.com", "events.amazonaws.com"],
      flatten([for it in data.aws_iam_policy_document.apply_identity["production"].statement : [for c in it.condition : c.values] if it.sid == "RolesOfServices"]),
    )) == 0
    error_message = "in an account that is empty, the first alarm, load balancer, task and cache make the roles of their services"
  }
}

run "a_drill_reaches_the_hosts_for_drills" {
  command = plan

  assert {
    condition     = [for a in local.attachments : a.policy if a.role == "drill"] == ["drill"]
    error_message = "drill has its own policy and no other"
  }

  assert {
    condition = [
      for s in data.aws_iam_policy_document.drill.statement : { for c in s.condition : c.variable => one(c.values) } if s.sid == "Host"
    ] == [{ "ssm:resourceTag/project" = "causeway", "ssm:resourceTag/Role" = "restore-drill" }]
    error_message = "a command goes to hosts for drills only"
  }

  assert {
    condition = [
      for s in data.aws_iam_policy_document.drill.statement : { for c in s.condition : c.variable => one(c.values) } if contains(s.actions, "ec2:StopInstances")
    ] == [{ "aws:ResourceTag/project" = "causeway", "aws:ResourceTag/Role" = "restore-drill" }]
    error_message = "it starts and stops hosts for drills only, and no database node"
  }

  assert {
    condition = [
      for s in data.aws_iam_policy_document.drill.statement : { for c in s.condition : c.variable => one(c.values) } if contains(s.actions, "kms:CreateGrant")
    ] == [{ "aws:ResourceTag/project" = "causeway", "kms:ViaService" = "ec2.eu-central-1.amazonaws.com", "kms:GrantIsForAWSResource" = "true" }]
    error_message = "a host with encrypted volumes starts, and the key is granted to EC2 alone"
  }

  assert {
    condition = [
      for s in data.aws_iam_policy_document.drill.statement : one(s.resources) if s.sid == "Document"
    ] == ["arn:aws:ssm:eu-central-1::document/AWS-RunShellScript"]
    error_message = "what is run is a shell script, in the DR region"
  }

  assert {
    condition = alltrue(flatten([
      for s in data.aws_iam_policy_document.drill.statement : [for it in s.resources : it != "*" || toset(s.actions) == toset(["ec2:DescribeInstances", "ssm:CancelCommand", "ssm:DescribeInstanceInformation", "ssm:GetCommandInvocation"])]
    ]))
    error_message = "only what has no resource has none"
  }
}

run "ansible_reaches_the_hosts_of_its_environment" {
  command = plan

  assert {
    condition = { for e, d in data.aws_iam_policy_document.operate : e => one([for s in d.statement : { for c in s.condition : c.variable => toset(c.values) } if s.sid == "Hosts"]) } == {
      for e in var.environments : e => {
        "ssm:resourceTag/project"     = toset(["causeway"])
        "ssm:resourceTag/environment" = toset([e])
        "ssm:resourceTag/Role"        = toset(["postgres", "restore-drill", "monitoring"])
      }
    }
    error_message = "a session is on a host of the environment, and on no node of Kubernetes"
  }

  assert {
    condition = { for e, d in data.aws_iam_policy_document.operate : e => one([for s in d.statement : { for c in s.condition : c.variable => toset(c.values) } if s.sid == "Keys"]) } == {
      for e in var.environments : e => {
        "ec2:osuser"                  = toset(["admin"])
        "aws:ResourceTag/project"     = toset(["causeway"])
        "aws:ResourceTag/environment" = toset([e])
        "aws:ResourceTag/Role"        = toset(["postgres", "restore-drill", "monitoring"])
      }
    }
    error_message = "a key is for the administrator of a host of the environment, and for no other user: as root or postgres, sudo would log nothing"
  }

  assert {
    condition = alltrue([
      for e, d in data.aws_iam_policy_document.operate : toset(flatten([for s in d.statement : s.resources if contains(s.actions, "ssm:StartSession") && s.sid != "Hosts"])) == toset([
        "arn:aws:ssm:eu-west-1::document/AWS-StartSSHSession", "arn:aws:ssm:eu-central-1::document/AWS-StartSSHSession",
      ])
    ])
    error_message = "a session is SSH: no shell of Systems Manager, and no other port"
  }

  assert {
    condition     = alltrue([for e, d in data.aws_iam_policy_document.operate : alltrue(flatten([for s in d.statement : [for it in s.resources : strcontains(it, ":session/causeway-${e}-ansible-")] if s.sid == "OwnSessions"]))])
    error_message = "it ends its own sessions only"
  }

  assert {
    condition     = alltrue([for e, d in data.aws_iam_policy_document.operate : length(setintersection(flatten([for s in d.statement : s.actions]), ["ssm:SendCommand", "s3:PutObject", "s3:GetObject"])) == 0])
    error_message = "it acts in sessions: it sends no commands beside them, and leaves no file in a bucket"
  }

  assert {
    condition = alltrue([
      for e, d in data.aws_iam_policy_document.operate : alltrue(flatten([
        for s in d.statement : [for it in s.resources : strcontains(it, ":secret:causeway-${e}/") && endswith(it, "-??????") && !strcontains(it, "restore-drill")] if contains(s.actions, "secretsmanager:GetSecretValue")
      ]))
    ])
    error_message = "it reads the secrets of its own hosts, and not the identity that decrypts backups"
  }

  assert {
    condition = toset(flatten([
      for s in data.aws_iam_policy_document.pipeline_boundary.statement : [for c in s.condition : c.values] if s.sid == "NoSecretIsRead"
      ])) == toset([
      for e in var.environments : "arn:aws:iam::123456789012:role/pipeline/causeway-operate-${e}"
    ])
    error_message = "no other pipeline reads a secret"
  }
}

run "image_builder_reaches_nothing_of_the_platform" {
  command = plan

  assert {
    condition     = aws_iam_role.image_builder.path == "/pipeline/" && endswith(aws_iam_role_policy_attachment.image_builder.policy_arn, "AmazonSSMManagedInstanceCore")
    error_message = "no role of an environment changes it, and Systems Manager reaches it"
  }

  assert {
    condition     = alltrue([for s in data.aws_iam_policy_document.image_builder.statement : s.effect == "Deny"])
    error_message = "it has no permission of its own"
  }
}

run "images_are_scanned_immutable_and_in_both_regions" {
  command = plan

  assert {
    condition     = toset(keys(aws_ecr_repository.api)) == toset(["eu-west-1", "eu-central-1"]) && alltrue([for k, r in aws_ecr_repository.api : r.region == k])
    error_message = "one repository in each database region"
  }

  assert {
    condition = alltrue([
      for r in aws_ecr_repository.api : r.image_tag_mutability == "IMMUTABLE" && r.image_scanning_configuration[0].scan_on_push && r.encryption_configuration[0].encryption_type == "KMS"
    ])
    error_message = "tags do not move, images are scanned, layers are encrypted with a key"
  }

  assert {
    condition     = aws_ecr_replication_configuration.api.replication_configuration[0].rule[0].destination[0].region == "eu-central-1"
    error_message = "an image is there when its region is needed"
  }

  assert {
    condition = alltrue([
      for p in aws_ecr_lifecycle_policy.api : [for r in jsondecode(p.policy).rules : r.selection.tagStatus if r.selection.countType == "imageCountMoreThan"] == ["tagged"]
    ])
    error_message = "releases are counted, and not what they are made of"
  }
}

run "project_with_capitals" {
  command = plan
  variables {
    project = "Causeway"
  }
  expect_failures = [var.project]
}

run "owner_blank" {
  command = plan
  variables {
    owner = " "
  }
  expect_failures = [var.owner]
}

run "repository_with_a_wildcard" {
  command = plan
  variables {
    repository = "example/*"
  }
  expect_failures = [var.repository]
}

run "no_environment" {
  command = plan
  variables {
    environments = []
    dns_zones    = {}
  }
  expect_failures = [var.environments]
}

run "environment_too_long" {
  command = plan
  variables {
    environments = ["an-environment-with-a-long-name"]
    dns_zones    = { an-environment-with-a-long-name = ["example.com"] }
  }
  expect_failures = [var.environments]
}

run "state_in_a_database_region" {
  command = plan
  variables {
    regions = { state = "eu-west-1" }
  }
  expect_failures = [var.regions]
}

run "too_few_images" {
  command = plan
  variables {
    images_kept = 1
  }
  expect_failures = [var.images_kept]
}

run "versions_too_short" {
  command = plan
  variables {
    state_versions_days = 1
  }
  expect_failures = [var.state_versions_days]
}
