# Four roles: of the cluster, the nodes, the VPC CNI, and the External Secrets Operator. The API's own pods have
# none: it calls no AWS service.

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
    api = {
      description = "Fetches the secrets of the API in the cluster ${var.name}"
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

resource "aws_iam_role_policy" "secrets" {
  name   = "secrets"
  role   = aws_iam_role.this["api"].name
  policy = data.aws_iam_policy_document.secrets.json
}

resource "aws_eks_pod_identity_association" "api" {
  cluster_name    = aws_eks_cluster.this.name
  namespace       = var.secrets_reader.namespace
  service_account = var.secrets_reader.service_account
  role_arn        = aws_iam_role.this["api"].arn
}
