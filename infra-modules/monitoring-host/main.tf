# The host of Prometheus and Alertmanager of a region. What it stores can be lost: metrics of some weeks, and silences.

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
    volume_size = var.volume_size_gib
    encrypted   = true
    kms_key_id  = var.kms_key_arn
    tags        = { Name = "${var.name}-monitoring-root" }
  }

  tags = {
    Name = "${var.name}-monitoring"
    Role = "monitoring"
    Node = "monitoring-${data.aws_region.this.region}" # its name in Ansible's inventory, which has both regions
  }

  # A newer AMI does not replace it automatically: Ansible would have to configure it again.
  lifecycle {
    ignore_changes = [ami, user_data]

    precondition {
      condition     = var.ami_id == null || try(contains(data.aws_ec2_instance_type.this.supported_architectures, data.aws_ami.this[0].architecture), false)
      error_message = "`ami_id` is an image for ${try(data.aws_ami.this[0].architecture, "another architecture")}, and ${var.instance_type} runs ${join(", ", data.aws_ec2_instance_type.this.supported_architectures)}: build the image for that architecture, or choose another instance type."
    }
  }
}

# No ingress rule: nothing connects to it. Operators reach the console through Systems Manager.
resource "aws_security_group" "this" {
  name        = "${var.name}-monitoring"
  description = "Prometheus and Alertmanager of ${var.name}"
  vpc_id      = var.vpc_id
  tags        = { Name = "${var.name}-monitoring" }
}

locals {
  targets = { for pair in setproduct(keys(var.ports), var.target_cidrs) : "${pair[0]} ${pair[1]}" => { what = pair[0], port = var.ports[pair[0]], cidr = pair[1] } }
}

resource "aws_vpc_security_group_egress_rule" "targets" {
  for_each = local.targets

  security_group_id = aws_security_group.this.id
  description       = "Metrics of ${each.value.what}"
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
  cidr_ipv4         = each.value.cidr
}

resource "aws_vpc_security_group_egress_rule" "endpoints" {
  count = var.aws_access == null ? 0 : 1

  security_group_id            = aws_security_group.this.id
  description                  = "AWS APIs, through endpoints"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  referenced_security_group_id = var.aws_access.endpoint_security_group_id
}

# The gateway endpoint has public addresses. The SSM agent is downloaded from there.
resource "aws_vpc_security_group_egress_rule" "s3" {
  count = var.aws_access == null ? 0 : 1

  security_group_id = aws_security_group.this.id
  description       = "S3 of this region"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  prefix_list_id    = var.aws_access.s3_prefix_list_id
}

resource "aws_vpc_security_group_egress_rule" "internet" {
  count = var.aws_access == null ? 1 : 0

  security_group_id = aws_security_group.this.id
  description       = "AWS APIs, without endpoints"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}
