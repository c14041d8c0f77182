# A host in a data subnet that Systems Manager alone reaches: the instance, its security group, and its role in iam.tf. What the
# host is for, and who else may reach it, is the caller's.

data "aws_region" "this" {}

data "aws_ec2_instance_type" "this" {
  instance_type = var.instance_type
}

data "aws_ami" "this" {
  count              = var.ami_id == null ? 0 : 1
  include_deprecated = true

  filter {
    name   = "image-id"
    values = [var.ami_id]
  }
}

data "aws_ssm_parameter" "debian" {
  count = var.ami_id == null ? 1 : 0
  name  = "/aws/service/debian/release/12/latest/${contains(data.aws_ec2_instance_type.this.supported_architectures, "arm64") ? "arm64" : "amd64"}"
}

resource "aws_instance" "this" {
  ami                  = var.ami_id == null ? data.aws_ssm_parameter.debian[0].insecure_value : var.ami_id
  instance_type        = var.instance_type
  iam_instance_profile = aws_iam_instance_profile.this.name
  # Like a node, it needs the SSM agent at first boot.
  user_data = templatefile("${path.module}/../postgres/cloud-init.yaml", {
    region          = data.aws_region.this.region
    authorized_keys = file("${path.module}/../postgres/authorized-keys")
  })

  subnet_id                   = var.subnet_id
  associate_public_ip_address = false
  vpc_security_group_ids      = [aws_security_group.this.id]

  ebs_optimized = true
  monitoring    = true

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = var.root_volume_size_gib
    encrypted   = true
    kms_key_id  = var.kms_key_arn
    tags        = { Name = "${local.label}-root" }
  }

  tags = merge({ Name = local.label, Role = var.role }, var.node == null ? {} : { Node = var.node })

  # A newer AMI does not replace it automatically: Ansible would have to configure it again.
  lifecycle {
    ignore_changes = [ami, user_data]

    precondition {
      condition     = var.ami_id == null || try(contains(data.aws_ec2_instance_type.this.supported_architectures, data.aws_ami.this[0].architecture), false)
      error_message = "`ami_id` is an image for ${try(data.aws_ami.this[0].architecture, "another architecture")}, and ${var.instance_type} runs ${join(", ", data.aws_ec2_instance_type.this.supported_architectures)}: build the image for that architecture, or choose another instance type."
    }
  }
}

resource "aws_security_group" "this" {
  name        = local.label
  description = "${var.title} of ${var.name}"
  vpc_id      = var.vpc_id
  tags        = { Name = local.label }
}

module "aws_egress" {
  source = "../aws-egress"

  security_group_id = aws_security_group.this.id
  aws_access        = var.aws_access
}
