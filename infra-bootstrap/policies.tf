# Read permissions: of `plan` and `drift`, and of `apply` before it writes. Settings of resources, and Terraform's
# state; no backup object, no secret, no log event. The state contains no secret either.

data "aws_iam_policy_document" "read" {
  # checkov:skip=CKV_AWS_356: these actions read settings, most of them without resource-level permissions; the region limits them
  statement {
    sid = "Settings"
    actions = [
      "acm:DescribeCertificate", "acm:ListCertificates", "acm:ListTagsForCertificate",
      "application-autoscaling:Describe*", "application-autoscaling:ListTagsForResource",
      "cloudwatch:DescribeAlarms", "cloudwatch:ListTagsForResource",
      "ec2:Describe*", "ec2:GetEbsEncryptionByDefault", "ec2:GetInstanceMetadataDefaults",
      "ecr:DescribeRepositories", "ecr:DescribeImages", "ecr:DescribeRegistry", "ecr:GetLifecyclePolicy", "ecr:GetRepositoryPolicy", "ecr:ListTagsForResource",
      "ecs:Describe*", "ecs:ListTagsForResource",
      "eks:Describe*", "eks:ListAssociatedAccessPolicies", "eks:ListTagsForResource",
      "elasticache:Describe*", "elasticache:ListTagsForResource",
      "elasticloadbalancing:Describe*",
      "events:DescribeRule", "events:ListTagsForResource", "events:ListTargetsByRule",
      "kms:DescribeKey", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListAliases", "kms:ListResourceTags",
      "logs:DescribeLogGroups", "logs:DescribeMetricFilters", "logs:DescribeResourcePolicies", "logs:ListTagsForResource",
      "route53resolver:GetFirewall*", "route53resolver:ListFirewall*", "route53resolver:ListTagsForResource",
      "secretsmanager:DescribeSecret", "secretsmanager:GetResourcePolicy", "secretsmanager:ListSecretVersionIds",
      "sns:GetSubscriptionAttributes", "sns:GetTopicAttributes", "sns:ListTagsForResource",
      "ssm:DescribeParameters",
      "wafv2:GetLoggingConfiguration", "wafv2:GetWebACL", "wafv2:GetWebACLForResource", "wafv2:ListTagsForResource",
    ]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = local.regions
    }
  }

  statement {
    sid = "GlobalSettings"
    actions = [
      "budgets:ListTagsForResource", "budgets:ViewBudget",
      "iam:GetInstanceProfile", "iam:GetOpenIDConnectProvider", "iam:GetPolicy", "iam:GetPolicyVersion", "iam:GetRole", "iam:GetRolePolicy",
      "iam:ListAttachedRolePolicies", "iam:ListInstanceProfilesForRole", "iam:ListPolicyTags", "iam:ListPolicyVersions", "iam:ListRolePolicies", "iam:ListRoleTags",
      "route53:GetChange", "route53:GetDNSSEC", "route53:GetHealthCheck", "route53:GetHostedZone", "route53:ListHostedZones", "route53:ListHostedZonesByVPC",
      "route53:ListResourceRecordSets", "route53:ListTagsForResource", "route53:ListTagsForResources", "route53:ListVPCAssociationAuthorizations",
    ]
    resources = ["*"]
  }

  # Route 53's health checks report to us-east-1 alone.
  statement {
    sid       = "HealthCheckAlarms"
    actions   = ["cloudwatch:DescribeAlarms", "cloudwatch:ListTagsForResource", "sns:GetSubscriptionAttributes", "sns:GetTopicAttributes", "sns:ListTagsForResource"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = ["us-east-1"]
    }
  }

  statement {
    sid = "Buckets"
    actions = [
      "s3:GetAccelerateConfiguration", "s3:GetBucket*", "s3:GetEncryptionConfiguration", "s3:GetLifecycleConfiguration", "s3:GetReplicationConfiguration",
      "s3:GetInventoryConfiguration", "s3:GetMetricsConfiguration", "s3:ListBucket", "s3:ListTagsForResource",
    ]
    resources = ["${local.arn}:s3:::${var.project}-*"]
  }

  statement {
    sid       = "StateObjects"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.state.arn}/*.tfstate"]
  }

  statement {
    sid       = "StateKey"
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.state.arn]
  }

  # Values shared between the roots, and the public parameters with the AMI ids of Debian and EKS.
  statement {
    sid     = "Parameters"
    actions = ["ssm:GetParameter", "ssm:GetParameters", "ssm:GetParametersByPath", "ssm:ListTagsForResource"]
    resources = concat(
      [for e in local.names : "${local.arn}:ssm:*:${local.account}:parameter/${e}"],
      [for e in local.names : "${local.arn}:ssm:*:${local.account}:parameter/${e}/*"],
      ["${local.arn}:ssm:*::parameter/aws/service/*"],
    )
  }
}

# Write permissions of `apply` for one environment: the network and the workloads in it.

data "aws_iam_policy_document" "apply_compute" {
  # checkov:skip=CKV_AWS_111: a resource to be created has no ARN yet; the region limits it
  # checkov:skip=CKV_AWS_356: as above
  for_each = local.names

  statement {
    sid = "NetworkAndCompute"
    actions = [
      "application-autoscaling:DeleteScalingPolicy", "application-autoscaling:DeregisterScalableTarget", "application-autoscaling:PutScalingPolicy", "application-autoscaling:RegisterScalableTarget", "application-autoscaling:TagResource",
      "ec2:AcceptVpcPeeringConnection", "ec2:AllocateAddress", "ec2:AssociateAddress", "ec2:AssociateRouteTable", "ec2:AttachInternetGateway", "ec2:AttachVolume",
      "ec2:AssociateIamInstanceProfile", "ec2:AuthorizeSecurityGroup*", "ec2:Create*", "ec2:DeleteFlowLogs", "ec2:DeleteInternetGateway", "ec2:DeleteLaunchTemplate", "ec2:DeleteNatGateway", "ec2:DeleteNetworkAcl*",
      "ec2:DeletePlacementGroup", "ec2:DeleteRoute*", "ec2:DeleteSecurityGroup", "ec2:DeleteSubnet", "ec2:DeleteTags", "ec2:DeleteVolume", "ec2:DeleteVpc*",
      "ec2:DetachInternetGateway", "ec2:DetachVolume", "ec2:DisassociateAddress", "ec2:DisassociateIamInstanceProfile", "ec2:DisassociateRouteTable",
      "ec2:ModifyInstance*", "ec2:ModifySecurityGroupRules", "ec2:ModifySubnetAttribute", "ec2:ModifyVolume", "ec2:ModifyVpc*", "ec2:ReleaseAddress",
      "ec2:ReplaceIamInstanceProfileAssociation", "ec2:ReplaceRoute*", "ec2:RevokeSecurityGroup*", "ec2:RunInstances", "ec2:StartInstances", "ec2:StopInstances", "ec2:TerminateInstances",
      "ec2:UpdateSecurityGroupRuleDescriptions*",
      "elasticloadbalancing:AddTags", "elasticloadbalancing:Create*", "elasticloadbalancing:Delete*", "elasticloadbalancing:Modify*", "elasticloadbalancing:RemoveTags",
      "elasticloadbalancing:SetIpAddressType", "elasticloadbalancing:SetRulePriorities", "elasticloadbalancing:SetSecurityGroups", "elasticloadbalancing:SetSubnets", "elasticloadbalancing:SetWebACL",
      "ecs:DeregisterTaskDefinition", "eks:CreateCluster",
      "logs:CreateLogDelivery", "logs:DeleteLogDelivery", "logs:DeleteResourcePolicy", "logs:GetLogDelivery", "logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:UpdateLogDelivery",
      "ec2:ModifyLaunchTemplate", "ec2:MonitorInstances", "ec2:UnmonitorInstances",
      "sns:SetSubscriptionAttributes", "sns:Unsubscribe", "vpce:AllowMultiRegion",
    ]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = local.regions
    }
  }

  # Resources of another environment, or of this root. Resources without the tag, such as a route, are excluded.
  statement {
    sid       = "NotAnotherEnvironment"
    effect    = "Deny"
    actions   = ["acm:*", "application-autoscaling:*", "ec2:*", "elasticloadbalancing:*"]
    resources = ["*"]

    condition {
      test     = "Null"
      variable = "aws:ResourceTag/environment"
      values   = ["false"]
    }

    condition {
      test     = "StringNotEquals"
      variable = "aws:ResourceTag/environment"
      values   = [each.key]
    }
  }

  statement {
    sid = "Clusters"
    actions = [
      "ecs:CreateCluster", "ecs:CreateService", "ecs:DeleteCluster", "ecs:DeleteService", "ecs:PutClusterCapacityProviders", "ecs:RegisterTaskDefinition", "ecs:TagResource", "ecs:UntagResource",
      "ecs:UpdateCluster", "ecs:UpdateClusterSettings", "ecs:UpdateService",
      "eks:AssociateAccessPolicy", "eks:CreateAccessEntry", "eks:CreateAddon", "eks:CreateNodegroup", "eks:CreatePodIdentityAssociation",
      "eks:DeleteAccessEntry", "eks:DeleteAddon", "eks:DeleteCluster", "eks:DeleteNodegroup", "eks:DeletePodIdentityAssociation", "eks:DisassociateAccessPolicy",
      "eks:TagResource", "eks:UntagResource", "eks:UpdateAccessEntry", "eks:UpdateAddon", "eks:UpdateClusterConfig", "eks:UpdateClusterVersion",
      "eks:UpdateNodegroupConfig", "eks:UpdateNodegroupVersion", "eks:UpdatePodIdentityAssociation",
    ]
    resources = concat(
      [for it in ["cluster/${each.value}*", "service/${each.value}*/*", "task-definition/${each.value}*"] : "${local.arn}:ecs:*:${local.account}:${it}"],
      [
        for it in ["access-entry/${each.value}*/*/*/*/*", "addon/${each.value}*/*/*", "cluster/${each.value}*", "nodegroup/${each.value}*/*/*", "podidentityassociation/${each.value}*/*"] :
        "${local.arn}:eks:*:${local.account}:${it}"
      ],
    )
  }

  statement {
    sid = "CacheAndFirewall"
    actions = [
      "elasticache:AddTagsToResource", "elasticache:CreateCacheSubnetGroup", "elasticache:CreateReplicationGroup", "elasticache:CreateUser", "elasticache:CreateUserGroup",
      "elasticache:DecreaseReplicaCount", "elasticache:DeleteCacheSubnetGroup", "elasticache:DeleteReplicationGroup", "elasticache:DeleteUser", "elasticache:DeleteUserGroup",
      "elasticache:IncreaseReplicaCount", "elasticache:ModifyCacheSubnetGroup", "elasticache:ModifyReplicationGroup", "elasticache:ModifyUser", "elasticache:ModifyUserGroup", "elasticache:RemoveTagsFromResource",
      "wafv2:AssociateWebACL", "wafv2:CreateWebACL", "wafv2:DeleteLoggingConfiguration", "wafv2:DeleteWebACL", "wafv2:DisassociateWebACL", "wafv2:PutLoggingConfiguration",
      "wafv2:TagResource", "wafv2:UntagResource", "wafv2:UpdateWebACL",
    ]
    resources = concat(
      [for it in ["cluster", "replicationgroup", "subnetgroup", "user", "usergroup"] : "${local.arn}:elasticache:*:${local.account}:${it}:${each.value}*"],
      ["${local.arn}:elasticache:*:${local.account}:parametergroup:default*"],
      ["${local.arn}:elasticloadbalancing:*:${local.account}:loadbalancer/app/${each.value}*/*"],
      [for it in ["regional/managedruleset/*/*", "regional/webacl/${each.value}*/*"] : "${local.arn}:wafv2:*:${local.account}:${it}"],
    )
  }
}

# Data and keys.

data "aws_iam_policy_document" "apply_storage" {
  # checkov:skip=CKV_AWS_109: policies of keys and buckets are part of the apply; the names limit them
  # checkov:skip=CKV_AWS_111: a key and a certificate have no ARN before they are created
  # checkov:skip=CKV_AWS_356: as above
  for_each = local.names

  statement {
    sid       = "StateObjects"
    actions   = ["s3:PutObject"]
    resources = ["${aws_s3_bucket.state.arn}/${each.key}/*.tfstate", "${aws_s3_bucket.state.arn}/${each.key}/*.tflock"]
  }

  statement {
    sid       = "StateLock"
    actions   = ["s3:DeleteObject", "s3:GetObject"]
    resources = ["${aws_s3_bucket.state.arn}/${each.key}/*.tflock"]
  }

  statement {
    sid       = "StateKey"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.state.arn]
  }

  # Changes the bucket itself; no object is read, written or deleted.
  statement {
    sid = "Buckets"
    actions = [
      "s3:CreateBucket", "s3:DeleteBucket", "s3:DeleteBucketPolicy", "s3:PutBucketObjectLockConfiguration", "s3:PutBucketOwnershipControls", "s3:PutBucketPolicy", "s3:PutBucketPublicAccessBlock",
      "s3:PutBucketTagging", "s3:PutBucketVersioning", "s3:PutEncryptionConfiguration", "s3:PutLifecycleConfiguration", "s3:PutMetricsConfiguration", "s3:PutReplicationConfiguration", "s3:TagResource", "s3:UntagResource",
    ]
    resources = ["${local.arn}:s3:::${each.value}*"]
  }

  statement {
    sid = "Keys"
    actions = [
      "acm:AddTagsToCertificate", "acm:DeleteCertificate", "acm:RequestCertificate", "acm:UpdateCertificateOptions",
      "kms:CreateAlias", "kms:CreateKey", "kms:DeleteAlias", "kms:EnableKeyRotation", "kms:PutKeyPolicy", "kms:ScheduleKeyDeletion", "kms:TagResource", "kms:UntagResource",
      "kms:UpdateAlias", "kms:UpdateKeyDescription",
    ]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = local.regions
    }
  }

  # With the environment's keys, and only through the services that encrypt what the apply creates: secrets and
  # volumes. `apply` can decrypt nothing itself.
  statement {
    sid       = "KeysThroughServices"
    actions   = ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
    resources = [for region in local.database_regions : "${local.arn}:kms:${region}:${local.account}:key/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/environment"
      values   = [each.key]
    }

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = flatten([for region in local.database_regions : ["ec2.${region}.amazonaws.com", "secretsmanager.${region}.amazonaws.com"]])
    }
  }

  # A grant for a service that keeps using the key: volumes, the cache, Kubernetes' secrets.
  statement {
    sid       = "GrantsForServices"
    actions   = ["kms:CreateGrant"]
    resources = [for region in local.database_regions : "${local.arn}:kms:${region}:${local.account}:key/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/environment"
      values   = [each.key]
    }

    condition {
      test     = "Bool"
      variable = "kms:GrantIsForAWSResource"
      values   = ["true"]
    }
  }

  # Of another environment, or of infra-bootstrap. Their use is not granted either.
  statement {
    sid    = "NoKeyOfAnother"
    effect = "Deny"
    actions = [
      "kms:CreateAlias", "kms:CreateGrant", "kms:DeleteAlias", "kms:DisableKey*", "kms:EnableKeyRotation", "kms:PutKeyPolicy", "kms:ScheduleKeyDeletion",
      "kms:TagResource", "kms:UntagResource", "kms:UpdateAlias", "kms:UpdateKeyDescription",
    ]
    resources = ["*"]

    condition {
      test     = "Null"
      variable = "aws:ResourceTag/environment"
      values   = ["false"]
    }

    condition {
      test     = "StringNotEquals"
      variable = "aws:ResourceTag/environment"
      values   = [each.key]
    }
  }

  statement {
    sid = "Named"
    actions = [
      "budgets:ModifyBudget", "budgets:TagResource", "budgets:UntagResource",
      "cloudwatch:DeleteAlarms", "cloudwatch:PutCompositeAlarm", "cloudwatch:PutMetricAlarm", "cloudwatch:TagResource", "cloudwatch:UntagResource",
      "events:DeleteRule", "events:PutRule", "events:PutTargets", "events:RemoveTargets", "events:TagResource", "events:UntagResource",
      "logs:AssociateKmsKey", "logs:CreateLogGroup", "logs:DeleteLogGroup", "logs:DeleteMetricFilter", "logs:DeleteRetentionPolicy", "logs:DisassociateKmsKey", "logs:PutMetricFilter", "logs:PutRetentionPolicy", "logs:TagResource", "logs:UntagResource",
      "secretsmanager:CreateSecret", "secretsmanager:DeleteResourcePolicy", "secretsmanager:DeleteSecret", "secretsmanager:PutResourcePolicy", "secretsmanager:PutSecretValue",
      "secretsmanager:RemoveRegionsFromReplication", "secretsmanager:ReplicateSecretToRegions", "secretsmanager:TagResource", "secretsmanager:UntagResource", "secretsmanager:UpdateSecret", "secretsmanager:UpdateSecretVersionStage",
      "sns:CreateTopic", "sns:DeleteTopic", "sns:SetTopicAttributes", "sns:Subscribe", "sns:TagResource", "sns:UntagResource",
      "ssm:AddTagsToResource", "ssm:DeleteParameter", "ssm:PutParameter", "ssm:RemoveTagsFromResource",
    ]
    resources = [
      "${local.arn}:budgets::${local.account}:budget/${each.value}*",
      "${local.arn}:cloudwatch:*:${local.account}:alarm:${each.value}*",
      "${local.arn}:events:*:${local.account}:rule/${each.value}*",
      "${local.arn}:logs:*:${local.account}:log-group:*${each.value}*",
      "${local.arn}:secretsmanager:*:${local.account}:secret:${each.value}*",
      "${local.arn}:sns:*:${local.account}:${each.value}*",
      "${local.arn}:ssm:*:${local.account}:parameter/${each.value}/*",
    ]
  }
}

# DNS names.

data "aws_iam_policy_document" "apply_dns" {
  # checkov:skip=CKV_AWS_111: a zone and a health check have no ARN before they are created
  # checkov:skip=CKV_AWS_356: as above
  for_each = local.names

  source_policy_documents = local.no_record_of_another[each.key]

  # A zone that is created has no id before, and Route 53 compares no tags. A zone with records cannot be deleted,
  # and records are limited to the environment's names.
  statement {
    sid = "Zones"
    actions = [
      "route53:AssociateVPCWithHostedZone", "route53:ChangeTagsForResource", "route53:CreateHealthCheck", "route53:CreateHostedZone",
      "route53:DeleteHealthCheck", "route53:DeleteHostedZone", "route53:DisassociateVPCFromHostedZone", "route53:UpdateHealthCheck", "route53:UpdateHostedZoneComment",
    ]
    resources = ["*"]
  }

  # Their ARNs have ids and no names; another environment's are excluded by their tag.
  statement {
    sid = "DnsFirewall"
    actions = [
      "route53resolver:AssociateFirewallRuleGroup", "route53resolver:CreateFirewallDomainList", "route53resolver:CreateFirewallRule", "route53resolver:CreateFirewallRuleGroup",
      "route53resolver:DeleteFirewallDomainList", "route53resolver:DeleteFirewallRule", "route53resolver:DeleteFirewallRuleGroup", "route53resolver:DisassociateFirewallRuleGroup",
      "route53resolver:TagResource", "route53resolver:UntagResource", "route53resolver:UpdateFirewallConfig", "route53resolver:UpdateFirewallDomains", "route53resolver:UpdateFirewallRule",
      "route53resolver:UpdateFirewallRuleGroupAssociation",
    ]
    resources = [
      for kind in ["config", "domain-list", "rule-group", "rule-group-association"] : "${local.arn}:route53resolver:*:${local.account}:firewall-${kind}/*"
    ]

    condition {
      test     = "StringEqualsIfExists"
      variable = "aws:ResourceTag/environment"
      values   = [each.key]
    }
  }

  # Of the topic of Route 53's health checks.
  statement {
    sid       = "HealthCheckAlarms"
    actions   = ["sns:SetSubscriptionAttributes", "sns:Unsubscribe"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = ["us-east-1"]
    }
  }

  statement {
    sid       = "Records"
    actions   = ["route53:ChangeResourceRecordSets"]
    resources = ["${local.arn}:route53:::hostedzone/*"]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "route53:ChangeResourceRecordSetsNormalizedRecordNames"
      values   = local.record_names[each.key]
    }

    # A list without names would satisfy the condition above.
    condition {
      test     = "Null"
      variable = "route53:ChangeResourceRecordSetsNormalizedRecordNames"
      values   = ["false"]
    }
  }
}

# Workload roles. Each must have the workload boundary, so that the apply role cannot create a more powerful
# role.

data "aws_iam_policy_document" "apply_identity" {
  # checkov:skip=CKV_AWS_109: limited to the environment's own roles, which their boundary limits
  # checkov:skip=CKV2_AWS_40: as above
  for_each = local.names

  statement {
    sid       = "RolesWithinTheBoundary"
    actions   = ["iam:AttachRolePolicy", "iam:CreateRole", "iam:DeleteRolePolicy", "iam:DetachRolePolicy", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"]
    resources = ["${local.arn}:iam::${local.account}:role/${each.value}-*"]

    condition {
      test     = "ArnEquals"
      variable = "iam:PermissionsBoundary"
      values   = [local.workload_boundary_arns[each.key]]
    }
  }

  statement {
    sid = "Identities"
    actions = [
      "iam:AddRoleToInstanceProfile", "iam:CreateInstanceProfile", "iam:CreatePolicy", "iam:CreatePolicyVersion", "iam:DeleteInstanceProfile", "iam:DeletePolicy", "iam:DeletePolicyVersion",
      "iam:DeleteRole", "iam:RemoveRoleFromInstanceProfile", "iam:TagInstanceProfile", "iam:TagPolicy", "iam:TagRole", "iam:UntagInstanceProfile", "iam:UntagPolicy", "iam:UntagRole",
      "iam:UpdateAssumeRolePolicy", "iam:UpdateRole", "iam:UpdateRoleDescription",
    ]
    resources = [for kind in ["instance-profile", "policy", "role"] : "${local.arn}:iam::${local.account}:${kind}/${each.value}-*"]
  }

  statement {
    sid       = "ClusterIdentity"
    actions   = ["iam:CreateOpenIDConnectProvider", "iam:DeleteOpenIDConnectProvider", "iam:TagOpenIDConnectProvider"]
    resources = ["${local.arn}:iam::${local.account}:oidc-provider/oidc.eks.*"]
  }

  statement {
    sid       = "HandOver"
    actions   = ["iam:PassRole"]
    resources = ["${local.arn}:iam::${local.account}:role/${each.value}-*"]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ec2.amazonaws.com", "ecs.amazonaws.com", "ecs-tasks.amazonaws.com", "eks.amazonaws.com", "pods.eks.amazonaws.com", "s3.amazonaws.com", "vpc-flow-logs.amazonaws.com"]
    }
  }

  statement {
    sid       = "RolesOfServices"
    actions   = ["iam:CreateServiceLinkedRole"]
    resources = ["${local.arn}:iam::${local.account}:role/aws-service-role/*"]

    condition {
      test     = "StringEquals"
      variable = "iam:AWSServiceName"
      values   = ["ecs.amazonaws.com", "ecs.application-autoscaling.amazonaws.com", "eks.amazonaws.com", "eks-nodegroup.amazonaws.com", "elasticache.amazonaws.com", "elasticloadbalancing.amazonaws.com", "events.amazonaws.com"]
    }
  }
}

# Permissions of `push`: the release workflow pushes the image and its build cache, and starts nothing.

data "aws_iam_policy_document" "push" {
  # checkov:skip=CKV_AWS_111: ecr:GetAuthorizationToken has no resource; the region limits it
  # checkov:skip=CKV_AWS_356: as above
  statement {
    sid       = "WithoutResource"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = [var.regions.primary]
    }
  }

  statement {
    sid = "Images"
    actions = [
      "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload", "ecr:DescribeImages", "ecr:DescribeImageScanFindings",
      "ecr:GetDownloadUrlForLayer", "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart",
    ]
    resources = [aws_ecr_repository.api[var.regions.primary].arn, aws_ecr_repository.cache.arn]
  }
}

# Permissions of `deploy`: find a pushed image, and deploy it to the environment's service.

data "aws_iam_policy_document" "deploy" {
  # checkov:skip=CKV_AWS_356: ecs:DescribeTaskDefinition has no resource; the region limits it
  for_each = local.names

  statement {
    sid       = "WithoutResource"
    actions   = ["ecs:DescribeTaskDefinition"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = local.database_regions
    }
  }

  statement {
    sid       = "Images"
    actions   = ["ecr:DescribeImages"]
    resources = [for r in aws_ecr_repository.api : r.arn]
  }

  statement {
    sid = "Service"
    actions = [
      "ecs:DescribeServiceDeployments", "ecs:DescribeServices", "ecs:DescribeTasks", "ecs:ListServiceDeployments", "ecs:RegisterTaskDefinition", "ecs:RunTask",
      "ecs:StopTask", "ecs:TagResource", "ecs:UpdateService",
    ]
    resources = [
      for kind in ["service", "service-deployment", "task", "task-definition"] : "${local.arn}:ecs:*:${local.account}:${kind}/${each.value}*"
    ]
  }

  statement {
    sid       = "HandOver"
    actions   = ["iam:PassRole"]
    resources = ["${local.arn}:iam::${local.account}:role/${each.value}-*"]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com"]
    }
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:FilterLogEvents", "logs:GetLogEvents"]
    resources = ["${local.arn}:logs:*:${local.account}:log-group:*${each.value}*"]
  }

  statement {
    sid       = "Parameters"
    actions   = ["ssm:GetParameter"]
    resources = ["${local.arn}:ssm:*:${local.account}:parameter/${each.value}/*"]
  }
}

locals {
  policies = merge(
    { read = { document = data.aws_iam_policy_document.read.json, roles = concat(["plan", "drift"], [for e in var.environments : "apply-${e}"]) } },
    { for e in var.environments : "apply-${e}-compute" => { document = data.aws_iam_policy_document.apply_compute[e].json, roles = ["apply-${e}"] } },
    { for e in var.environments : "apply-${e}-storage" => { document = data.aws_iam_policy_document.apply_storage[e].json, roles = ["apply-${e}"] } },
    { for e in var.environments : "apply-${e}-dns" => { document = data.aws_iam_policy_document.apply_dns[e].json, roles = ["apply-${e}"] } },
    { for e in var.environments : "apply-${e}-identity" => { document = data.aws_iam_policy_document.apply_identity[e].json, roles = ["apply-${e}"] } },
    { for e in var.environments : "deploy-${e}" => { document = data.aws_iam_policy_document.deploy[e].json, roles = ["deploy-${e}"] } },
    { for e in var.environments : "operate-${e}" => { document = data.aws_iam_policy_document.operate[e].json, roles = ["operate-${e}"] } },
    { push = { document = data.aws_iam_policy_document.push.json, roles = ["push"] } },
    { drill = { document = data.aws_iam_policy_document.drill.json, roles = ["drill"] } },
  )

  attachments = merge([
    for policy, it in local.policies : { for role in it.roles : "${role} ${policy}" => { role = role, policy = policy } }
  ]...)
}

resource "aws_iam_policy" "pipeline" {
  for_each = local.policies

  name        = "${var.project}-${each.key}"
  path        = "/pipeline/"
  description = "Permissions of the pipelines' roles ${join(", ", each.value.roles)}"
  policy      = each.value.document
}

resource "aws_iam_role_policy_attachment" "pipeline" {
  for_each = local.attachments

  role       = aws_iam_role.pipeline[each.value.role].name
  policy_arn = aws_iam_policy.pipeline[each.value.policy].arn
}
