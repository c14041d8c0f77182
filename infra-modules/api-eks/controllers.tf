# Permissions of the controllers that the chart relies on, each for its service account alone.

locals {
  region  = data.aws_region.this.region
  account = data.aws_caller_identity.this.account_id

  controllers = {
    secrets       = { namespace = var.secrets_reader.namespace, service_account = var.secrets_reader.service_account, policy = data.aws_iam_policy_document.secrets.json }
    load-balancer = { namespace = "kube-system", service_account = "aws-load-balancer-controller", policy = data.aws_iam_policy_document.load_balancer.json }
    autoscaler    = { namespace = "kube-system", service_account = "cluster-autoscaler", policy = data.aws_iam_policy_document.autoscaler.json }
  }

  # The AWS Load Balancer Controller begins its names with `k8s-`, and tags what it makes with its cluster.
  balancer  = "arn:aws:elasticloadbalancing:${local.region}:${local.account}"
  ownership = "elbv2.k8s.aws/cluster"
}

resource "aws_iam_role_policy" "controller" {
  for_each = local.controllers

  name   = each.key
  role   = aws_iam_role.this[each.key].name
  policy = each.value.policy
}

resource "aws_eks_pod_identity_association" "controller" {
  for_each = local.controllers

  cluster_name    = aws_eks_cluster.this.name
  namespace       = each.value.namespace
  service_account = each.value.service_account
  role_arn        = aws_iam_role.this[each.key].arn
}

# External Secrets Operator.

data "aws_iam_policy_document" "secrets" {
  statement {
    sid       = "ReadSecrets"
    actions   = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
    resources = var.secret_arns
  }

  statement {
    sid       = "DecryptSecrets"
    actions   = ["kms:Decrypt"]
    resources = concat([var.kms_key_arn], var.secret_kms_key_arns)
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["secretsmanager.${data.aws_region.this.region}.amazonaws.com"]
    }
  }
}

# AWS Load Balancer Controller, for an Ingress with an Application Load Balancer: the project's policy without Cognito,
# Shield, WAF Classic and the search for certificates, which the chart does not use.

data "aws_iam_policy_document" "load_balancer" {
  # checkov:skip=CKV_AWS_356: the actions on `*` read settings, and have no resource-level permissions
  statement {
    sid = "ReadSettings"
    actions = [
      "ec2:DescribeAccountAttributes", "ec2:DescribeAddresses", "ec2:DescribeAvailabilityZones", "ec2:DescribeInstances", "ec2:DescribeInternetGateways",
      "ec2:DescribeNetworkInterfaces", "ec2:DescribeRouteTables", "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeTags",
      "ec2:DescribeVpcPeeringConnections", "ec2:DescribeVpcs", "ec2:GetSecurityGroupsForVpc",
      "elasticloadbalancing:DescribeCapacityReservation", "elasticloadbalancing:DescribeListenerAttributes", "elasticloadbalancing:DescribeListenerCertificates",
      "elasticloadbalancing:DescribeListeners", "elasticloadbalancing:DescribeLoadBalancerAttributes", "elasticloadbalancing:DescribeLoadBalancers",
      "elasticloadbalancing:DescribeRules", "elasticloadbalancing:DescribeSSLPolicies", "elasticloadbalancing:DescribeTags", "elasticloadbalancing:DescribeTargetGroupAttributes",
      "elasticloadbalancing:DescribeTargetGroups", "elasticloadbalancing:DescribeTargetHealth", "elasticloadbalancing:DescribeTrustStores",
    ]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = [local.region]
    }
  }

  # Of the first load balancer of an account.
  statement {
    sid       = "RoleOfTheService"
    actions   = ["iam:CreateServiceLinkedRole"]
    resources = ["arn:aws:iam::${local.account}:role/aws-service-role/elasticloadbalancing.amazonaws.com/*"]
    condition {
      test     = "StringEquals"
      variable = "iam:AWSServiceName"
      values   = ["elasticloadbalancing.amazonaws.com"]
    }
  }

  statement {
    sid       = "Firewall"
    actions   = ["wafv2:AssociateWebACL", "wafv2:DisassociateWebACL", "wafv2:GetWebACL", "wafv2:GetWebACLForResource"]
    resources = ["arn:aws:wafv2:${local.region}:${local.account}:regional/webacl/*/*", "${local.balancer}:loadbalancer/app/k8s-*/*"]
  }

  # Has no resource-level permissions: wafv2:AssociateWebACL limits it.
  statement {
    sid       = "FirewallOfTheBalancer"
    actions   = ["elasticloadbalancing:SetWebAcl"]
    resources = ["*"]
    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = [local.region]
    }
  }

  # The load balancer's group is admitted to the pods.
  statement {
    sid       = "GroupOfThePods"
    actions   = ["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"]
    resources = ["arn:aws:ec2:${local.region}:${local.account}:security-group/*"]
    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/kubernetes.io/cluster/${var.name}"
      values   = ["owned"]
    }
  }

  statement {
    sid       = "NewGroupInItsNetwork"
    actions   = ["ec2:CreateSecurityGroup"]
    resources = ["arn:aws:ec2:${local.region}:${local.account}:vpc/*"]
  }

  statement {
    sid       = "NewGroup"
    actions   = ["ec2:CreateSecurityGroup"]
    resources = ["arn:aws:ec2:${local.region}:${local.account}:security-group/*"]
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/${local.ownership}"
      values   = [var.name]
    }
  }

  statement {
    sid       = "TagsOfNewGroup"
    actions   = ["ec2:CreateTags"]
    resources = ["arn:aws:ec2:${local.region}:${local.account}:security-group/*"]
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/${local.ownership}"
      values   = [var.name]
    }
    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values   = ["CreateSecurityGroup"]
    }
  }

  statement {
    sid       = "OwnGroups"
    actions   = ["ec2:AuthorizeSecurityGroupIngress", "ec2:CreateTags", "ec2:DeleteSecurityGroup", "ec2:DeleteTags", "ec2:RevokeSecurityGroupIngress"]
    resources = ["arn:aws:ec2:${local.region}:${local.account}:security-group/*"]
    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.ownership}"
      values   = [var.name]
    }
  }

  statement {
    sid       = "NewBalancer"
    actions   = ["elasticloadbalancing:CreateLoadBalancer", "elasticloadbalancing:CreateTargetGroup"]
    resources = ["${local.balancer}:loadbalancer/app/k8s-*/*", "${local.balancer}:targetgroup/k8s-*/*"]
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/${local.ownership}"
      values   = [var.name]
    }
  }

  statement {
    sid = "OwnBalancer"
    actions = [
      "elasticloadbalancing:DeleteLoadBalancer", "elasticloadbalancing:DeleteTargetGroup", "elasticloadbalancing:DeregisterTargets", "elasticloadbalancing:ModifyLoadBalancerAttributes",
      "elasticloadbalancing:ModifyTargetGroup", "elasticloadbalancing:ModifyTargetGroupAttributes", "elasticloadbalancing:RegisterTargets", "elasticloadbalancing:SetIpAddressType",
      "elasticloadbalancing:SetSecurityGroups", "elasticloadbalancing:SetSubnets",
    ]
    resources = ["${local.balancer}:loadbalancer/app/k8s-*/*", "${local.balancer}:targetgroup/k8s-*/*"]
    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.ownership}"
      values   = [var.name]
    }
  }

  statement {
    sid = "ListenersAndTags"
    actions = [
      "elasticloadbalancing:AddListenerCertificates", "elasticloadbalancing:AddTags", "elasticloadbalancing:CreateListener", "elasticloadbalancing:CreateRule",
      "elasticloadbalancing:DeleteListener", "elasticloadbalancing:DeleteRule", "elasticloadbalancing:ModifyListener", "elasticloadbalancing:ModifyListenerAttributes",
      "elasticloadbalancing:ModifyRule", "elasticloadbalancing:RemoveListenerCertificates", "elasticloadbalancing:RemoveTags", "elasticloadbalancing:SetRulePriorities",
    ]
    resources = [
      "${local.balancer}:loadbalancer/app/k8s-*/*", "${local.balancer}:targetgroup/k8s-*/*",
      "${local.balancer}:listener/*/k8s-*/*/*", "${local.balancer}:listener-rule/*/k8s-*/*/*/*",
    ]
  }
}

# Cluster autoscaler. EKS tags the Auto Scaling groups of its node groups for it.

data "aws_iam_policy_document" "autoscaler" {
  # checkov:skip=CKV_AWS_356: the actions on `*` read settings, and have no resource-level permissions
  statement {
    sid = "ReadSettings"
    actions = [
      "autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeAutoScalingInstances", "autoscaling:DescribeLaunchConfigurations", "autoscaling:DescribeScalingActivities",
      "autoscaling:DescribeTags", "ec2:DescribeImages", "ec2:DescribeInstanceTypes", "ec2:DescribeLaunchTemplateVersions", "ec2:GetInstanceTypesFromInstanceRequirements",
    ]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = [local.region]
    }
  }

  statement {
    sid       = "ReadNodeGroup"
    actions   = ["eks:DescribeNodegroup"]
    resources = ["arn:aws:eks:${local.region}:${local.account}:nodegroup/${var.name}/*/*"]
  }

  statement {
    sid       = "OwnNodes"
    actions   = ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"]
    resources = ["arn:aws:autoscaling:${local.region}:${local.account}:autoScalingGroup:*:autoScalingGroupName/eks-*"]
    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/k8s.io/cluster-autoscaler/${var.name}"
      values   = ["owned"]
    }
  }
}
