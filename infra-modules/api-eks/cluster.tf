data "aws_region" "this" {}

data "aws_caller_identity" "this" {}

resource "aws_cloudwatch_log_group" "this" {
  # EKS writes to this name, and would create it without a retention.
  name              = "/aws/eks/${var.name}/cluster"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
}

resource "aws_eks_cluster" "this" {
  name     = var.name
  version  = var.kubernetes_version
  role_arn = aws_iam_role.this["cluster"].arn

  enabled_cluster_log_types     = ["api", "audit", "authenticator", "controllerManager", "scheduler"]
  bootstrap_self_managed_addons = false
  deletion_protection           = var.deletion_protection

  vpc_config {
    subnet_ids              = var.private_subnet_ids
    endpoint_private_access = true
    endpoint_public_access  = length(var.public_access_cidrs) > 0
    public_access_cidrs     = length(var.public_access_cidrs) > 0 ? var.public_access_cidrs : null
  }

  encryption_config {
    resources = ["secrets"]
    provider {
      key_arn = var.kms_key_arn
    }
  }

  access_config {
    authentication_mode                         = "API"
    bootstrap_cluster_creator_admin_permissions = false
  }

  upgrade_policy {
    support_type = var.support_type
  }

  depends_on = [aws_cloudwatch_log_group.this, aws_iam_role_policy_attachment.this]

  lifecycle {
    precondition {
      condition     = contains(keys(local.versions), var.kubernetes_version)
      error_message = "EKS does not offer Kubernetes ${var.kubernetes_version}: set kubernetes_version to one of ${join(", ", keys(local.versions))}."
    }

    precondition {
      condition     = var.support_type == "EXTENDED" || try(local.versions[var.kubernetes_version].version_status, "STANDARD_SUPPORT") == "STANDARD_SUPPORT"
      error_message = "Kubernetes ${var.kubernetes_version} is past its standard support: raise kubernetes_version, one minor version at a time, or set support_type to EXTENDED, which AWS charges per hour."
    }
  }
}

data "aws_eks_cluster_versions" "this" {}

locals {
  # Those that EKS offers, in standard or extended support.
  versions = { for version in data.aws_eks_cluster_versions.this.cluster_versions : version.cluster_version => version }

  end_of_support = try(local.versions[var.kubernetes_version][var.support_type == "EXTENDED" ? "end_of_extended_support_date" : "end_of_standard_support_date"], null)
}

# A warning 60 days before: after the end AWS upgrades the cluster by itself, and the configuration would downgrade it.
check "kubernetes_support" {
  assert {
    condition     = try(timecmp(timeadd(plantimestamp(), "1440h"), local.end_of_support) < 0, true)
    error_message = "The ${lower(var.support_type)} support of Kubernetes ${var.kubernetes_version} ends on ${try(substr(local.end_of_support, 0, 10), "an unknown day")}: raise kubernetes_version before."
  }
}

# From networks that are routed to the VPC, such as a VPN's. Nodes and pods are members of this group.
resource "aws_vpc_security_group_ingress_rule" "kubernetes_api" {
  for_each = toset(var.private_access_cidrs)

  security_group_id = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
  description       = "Kubernetes API from ${each.value}"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443

  tags = { Name = "${var.name}-eks" }
}

# For controllers that support IRSA and not Pod Identity.
resource "aws_iam_openid_connect_provider" "this" {
  url            = aws_eks_cluster.this.identity[0].oidc[0].issuer
  client_id_list = ["sts.amazonaws.com"]
}

locals {
  # Viewers read every kind but Secrets.
  access = merge(
    { for arn in var.viewer_role_arns : arn => "AmazonEKSViewPolicy" },
    { for arn in var.admin_role_arns : arn => "AmazonEKSClusterAdminPolicy" },
  )
}

resource "aws_eks_access_entry" "this" {
  for_each = local.access

  cluster_name  = aws_eks_cluster.this.name
  principal_arn = each.key
}

resource "aws_eks_access_policy_association" "this" {
  for_each = local.access

  cluster_name  = aws_eks_cluster.this.name
  principal_arn = aws_eks_access_entry.this[each.key].principal_arn
  policy_arn    = "arn:aws:eks::aws:cluster-access-policy/${each.value}"

  access_scope {
    type = "cluster"
  }
}
