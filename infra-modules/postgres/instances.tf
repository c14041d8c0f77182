# Instances of the nodes. Ansible configures them.

data "aws_region" "this" {}

data "aws_ec2_instance_type" "node" {
  count         = var.ami_id == null ? 1 : 0
  instance_type = var.instance_type
}

data "aws_ssm_parameter" "debian" {
  count = var.ami_id == null ? 1 : 0
  name  = "/aws/service/debian/release/12/latest/${contains(data.aws_ec2_instance_type.node[0].supported_architectures, "arm64") ? "arm64" : "amd64"}"
}

# Nodes of a zone are on different racks.
resource "aws_placement_group" "this" {
  name     = "${var.name}-postgres"
  strategy = "spread"
}

resource "aws_instance" "node" {
  for_each = var.nodes

  ami                  = var.ami_id == null ? data.aws_ssm_parameter.debian[0].insecure_value : var.ami_id
  instance_type        = var.instance_type
  iam_instance_profile = aws_iam_instance_profile.node[each.key].name
  user_data = templatefile("${path.module}/cloud-init.yaml", {
    region = data.aws_region.this.region
  })

  subnet_id                   = var.subnet_ids[each.value.zone]
  private_ip                  = each.value.private_ip
  associate_public_ip_address = false
  vpc_security_group_ids      = [aws_security_group.node.id]
  placement_group             = aws_placement_group.this.id

  ebs_optimized = true
  monitoring    = true

  # An operator has to turn this off before terminating a node; `promote --stop-instance` can always stop it.
  disable_api_termination              = true
  instance_initiated_shutdown_behavior = "stop"

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = 20
    encrypted   = true
    kms_key_id  = var.kms_key_arn
    tags        = { Name = "${var.name}-${each.key}-root" }
  }

  tags = {
    Name    = "${var.name}-${each.key}"
    Cluster = local.cluster_tag
    Role    = "postgres"
    Node    = each.key
  }

  # A newer AMI replaces no node automatically; `terraform apply -replace` does, one node at a time.
  lifecycle {
    ignore_changes = [ami, user_data]
  }
}
