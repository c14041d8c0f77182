# Instances of the nodes. Ansible configures them.

data "aws_region" "this" {}

# Also with an AMI: a misspelt type fails at plan.
data "aws_ec2_instance_type" "node" {
  instance_type = var.instance_type
}

data "aws_ami" "node" {
  count              = var.ami_id == null ? 0 : 1
  include_deprecated = true

  filter {
    name   = "image-id"
    values = [var.ami_id]
  }
}

locals {
  architecture = contains(data.aws_ec2_instance_type.node.supported_architectures, "arm64") ? "arm64" : "x86_64"

  # Performance that is paid for, above what every gp3 volume has, and what the instance carries for more than half an
  # hour a day.
  volume_sizes = [var.data_volume, var.wal_volume]
  provisioned = {
    iops       = { paid = sum([for size in local.volume_sizes : size.iops - 3000]), total = sum(local.volume_sizes[*].iops), baseline = data.aws_ec2_instance_type.node.ebs_performance_baseline_iops }
    throughput = { paid = sum([for size in local.volume_sizes : size.throughput - 125]), total = sum(local.volume_sizes[*].throughput), baseline = floor(data.aws_ec2_instance_type.node.ebs_performance_baseline_throughput / 1.048576) }
  }
}

check "volumes_fit_the_instance_type" {
  assert {
    condition     = local.provisioned.iops.paid <= 0 || local.provisioned.iops.total <= local.provisioned.iops.baseline
    error_message = "The volumes of a node have ${local.provisioned.iops.total} IOPS together, and ${var.instance_type} sustains ${local.provisioned.iops.baseline}: the rest is paid and used for half an hour a day at most. Lower `iops`, or choose a larger instance type."
  }

  assert {
    condition     = local.provisioned.throughput.paid <= 0 || local.provisioned.throughput.total <= local.provisioned.throughput.baseline
    error_message = "The volumes of a node have ${local.provisioned.throughput.total} MiB/s together, and ${var.instance_type} sustains ${local.provisioned.throughput.baseline}: the rest is paid and used for half an hour a day at most. Lower `throughput`, or choose a larger instance type."
  }
}

data "aws_ssm_parameter" "debian" {
  count = var.ami_id == null ? 1 : 0
  name  = "/aws/service/debian/release/12/latest/${local.architecture == "arm64" ? "arm64" : "amd64"}"
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
    region          = data.aws_region.this.region
    authorized_keys = file("${path.module}/authorized-keys")
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
    Address = "${each.key}.${var.private_zone_name}" # for Ansible's inventory
  }

  # A newer AMI replaces no node automatically; `terraform apply -replace` does, one node at a time.
  lifecycle {
    ignore_changes = [ami, user_data]

    precondition {
      condition     = data.aws_ec2_instance_type.node.hypervisor == "nitro" || data.aws_ec2_instance_type.node.bare_metal
      error_message = "`instance_type` is ${var.instance_type}, which is not on the Nitro hypervisor: its volumes have other device names, and Ansible would not find them. Choose a current type, such as m7g.large."
    }

    precondition {
      condition     = var.ami_id == null || try(contains(data.aws_ec2_instance_type.node.supported_architectures, data.aws_ami.node[0].architecture), false)
      error_message = "`ami_id` is an image for ${try(data.aws_ami.node[0].architecture, "another architecture")}, and ${var.instance_type} runs ${join(", ", data.aws_ec2_instance_type.node.supported_architectures)}: build the image for that architecture, or choose another instance type."
    }

    # Of each subnet AWS keeps the first four addresses and the last.
    precondition {
      condition = each.value.private_ip == null || !contains(keys(var.subnet_cidrs), each.value.zone) || try(
        cidrhost("${each.value.private_ip}/${split("/", var.subnet_cidrs[each.value.zone])[1]}", 0) == cidrhost(var.subnet_cidrs[each.value.zone], 0) &&
        !contains([for host in [0, 1, 2, 3, -1] : cidrhost(var.subnet_cidrs[each.value.zone], host)], each.value.private_ip), false
      )
      error_message = "`private_ip` of ${each.key} is ${coalesce(each.value.private_ip, "-")}, and its subnet ${lookup(var.subnet_cidrs, each.value.zone, "-")}, of which AWS keeps the first four addresses and the last: write another address of it, or leave it out."
    }
  }
}
