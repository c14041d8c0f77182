locals {
  addons_before_nodes = {
    vpc-cni                = jsonencode({ enableNetworkPolicy = "true" })
    kube-proxy             = null
    eks-pod-identity-agent = null
  }
}

resource "aws_eks_addon" "before_nodes" {
  for_each = local.addons_before_nodes

  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = each.key
  configuration_values        = each.value
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  # The VPC CNI has its own role, so that nodes need not have its permissions.
  dynamic "pod_identity_association" {
    for_each = each.key == "vpc-cni" ? [aws_iam_role.this["network"].arn] : []
    content {
      role_arn        = pod_identity_association.value
      service_account = "aws-node"
    }
  }
}

# metrics-server measures the CPU for the chart's autoscaler.
resource "aws_eks_addon" "after_nodes" {
  for_each = toset(["coredns", "metrics-server"])

  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = each.key
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  depends_on = [aws_eks_node_group.this]
}
