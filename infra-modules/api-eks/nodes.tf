resource "aws_launch_template" "node" {
  name        = "${var.name}-eks-node"
  description = "Nodes of the cluster ${var.name}"

  # Pods are one hop away and cannot reach IMDS: they have their service account's role, not the node's.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  monitoring {
    enabled = true
  }

  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_type           = "gp3"
      volume_size           = var.node.disk_gib
      encrypted             = true
      delete_on_termination = true
    }
  }

  dynamic "tag_specifications" {
    for_each = toset(["instance", "volume"])
    content {
      resource_type = tag_specifications.value
      tags          = { Name = "${var.name}-eks-node" }
    }
  }
}

resource "aws_eks_node_group" "this" {
  cluster_name    = aws_eks_cluster.this.name
  node_group_name = "${var.name}-api"
  node_role_arn   = aws_iam_role.this["node"].arn
  subnet_ids      = var.private_subnet_ids
  version         = aws_eks_cluster.this.version
  ami_type        = var.node.ami_type
  instance_types  = var.node.instance_types

  launch_template {
    id      = aws_launch_template.node.id
    version = aws_launch_template.node.latest_version
  }

  scaling_config {
    min_size     = var.node.min
    max_size     = var.node.max
    desired_size = var.node.desired
  }

  update_config {
    max_unavailable = 1
  }

  node_repair_config {
    enabled = true
  }

  # The cluster autoscaler owns the number of nodes.
  lifecycle {
    ignore_changes = [scaling_config[0].desired_size]
  }

  # Nodes need the VPC CNI and the Pod Identity agent to become ready.
  depends_on = [aws_eks_addon.before_nodes, aws_iam_role_policy_attachment.this]
}
