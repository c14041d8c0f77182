data "aws_ec2_instance_type" "node" {
  for_each = toset(var.node.instance_types)

  instance_type = each.value
}

locals {
  architecture = strcontains(var.node.ami_type, "_ARM_64_") ? "arm64" : "x86_64"

  # The VPC CNI gives each pod an address: a type admits one pod per address, but for one of each interface, and two
  # of the host's network. Three pods run on every node: VPC CNI, kube-proxy and Pod Identity agent.
  places = { for type, found in data.aws_ec2_instance_type.node : type => found.maximum_network_interfaces * (found.maximum_ipv4_addresses_per_interface - 1) + 2 - 3 }

  # CoreDNS 2, metrics-server 2, AWS Load Balancer Controller 2, External Secrets Operator 3, cluster autoscaler 1;
  # of the chart 3, one of an upgrade, and a migration.
  pods = 15
}

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

    precondition {
      condition     = alltrue([for found in data.aws_ec2_instance_type.node : contains(found.supported_architectures, local.architecture)])
      error_message = "node.ami_type is ${var.node.ami_type}, and ${join(", ", [for type, found in data.aws_ec2_instance_type.node : type if !contains(found.supported_architectures, local.architecture)])} has another architecture: change one of them."
    }

    precondition {
      condition     = alltrue([for count in values(local.places) : var.node.min * count >= local.pods])
      error_message = "${var.node.min} nodes of ${join(", ", [for type, count in local.places : type if var.node.min * count < local.pods])} cannot run the ${local.pods} pods of the API and its controllers: raise node.min, or choose a larger type."
    }
  }

  # Nodes need the VPC CNI and the Pod Identity agent to become ready.
  depends_on = [aws_eks_addon.before_nodes, aws_iam_role_policy_attachment.this]
}
