# Roles of the cluster, the nodes and the VPC CNI; those of the controllers have their permissions in controllers.tf.
# The API's own pods have none: it calls no AWS service.

locals {
  roles = {
    cluster = {
      description = "Control plane of the cluster ${var.name}"
      service     = "eks.amazonaws.com"
      policies    = ["AmazonEKSClusterPolicy"]
    }
    node = {
      description = "Nodes of the cluster ${var.name}"
      service     = "ec2.amazonaws.com"
      policies    = ["AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly", "AmazonSSMManagedInstanceCore"]
    }
    network = {
      description = "Network of the pods of the cluster ${var.name}"
      service     = "pods.eks.amazonaws.com"
      policies    = ["AmazonEKS_CNI_Policy"]
    }
    secrets = {
      description = "External Secrets Operator of the cluster ${var.name}: fetches the secrets of the API"
      service     = "pods.eks.amazonaws.com"
      policies    = []
    }
    load-balancer = {
      description = "AWS Load Balancer Controller of the cluster ${var.name}"
      service     = "pods.eks.amazonaws.com"
      policies    = []
    }
    autoscaler = {
      description = "Cluster autoscaler of the cluster ${var.name}"
      service     = "pods.eks.amazonaws.com"
      policies    = []
    }
  }

  attachments = merge([
    for role, it in local.roles : { for policy in it.policies : "${role}/${policy}" => { role = role, policy = policy } }
  ]...)
}

data "aws_iam_policy_document" "assume" {
  for_each = local.roles

  statement {
    # Pod Identity passes the pod in session tags.
    actions = each.value.service == "pods.eks.amazonaws.com" ? ["sts:AssumeRole", "sts:TagSession"] : ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = [each.value.service]
    }

    dynamic "condition" {
      for_each = each.value.service == "pods.eks.amazonaws.com" ? [data.aws_caller_identity.this.account_id] : []
      content {
        test     = "StringEquals"
        variable = "aws:SourceAccount"
        values   = [condition.value]
      }
    }
  }
}

resource "aws_iam_role" "this" {
  for_each = local.roles

  name                 = "${var.name}-eks-${each.key}-${data.aws_region.this.region}"
  description          = each.value.description
  assume_role_policy   = data.aws_iam_policy_document.assume[each.key].json
  permissions_boundary = var.permissions_boundary
}

resource "aws_iam_role_policy_attachment" "this" {
  for_each = local.attachments

  role       = aws_iam_role.this[each.value.role].name
  policy_arn = "arn:aws:iam::aws:policy/${each.value.policy}"
}
