# The drill host and its scratch volume. Neither contains data to keep.

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

check "volume_fits_the_instance_type" {
  assert {
    condition     = (var.scratch_volume.iops <= 3000 || var.scratch_volume.iops <= data.aws_ec2_instance_type.this.ebs_performance_baseline_iops) && (var.scratch_volume.throughput <= 125 || var.scratch_volume.throughput * 1.048576 <= data.aws_ec2_instance_type.this.ebs_performance_baseline_throughput)
    error_message = "The scratch volume has ${var.scratch_volume.iops} IOPS and ${var.scratch_volume.throughput} MiB/s, and ${var.instance_type} sustains ${data.aws_ec2_instance_type.this.ebs_performance_baseline_iops} and ${floor(data.aws_ec2_instance_type.this.ebs_performance_baseline_throughput / 1.048576)}: the rest is paid and used for half an hour a day at most. Lower them, or choose a larger instance type."
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

  subnet_id                   = var.subnet.id
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
    volume_size = 20
    encrypted   = true
    kms_key_id  = var.kms_key_arn
    tags        = { Name = "${var.name}-restore-drill-root" }
  }

  tags = {
    Name = "${var.name}-restore-drill"
    Role = "restore-drill"
  }

  # A newer AMI does not replace it automatically: Ansible would have to configure it again.
  lifecycle {
    ignore_changes = [ami, user_data]

    precondition {
      condition     = var.ami_id == null || try(contains(data.aws_ec2_instance_type.this.supported_architectures, data.aws_ami.this[0].architecture), false)
      error_message = "`ami_id` is an image for ${try(data.aws_ami.this[0].architecture, "another architecture")}, and ${var.instance_type} runs ${join(", ", data.aws_ec2_instance_type.this.supported_architectures)}: build the image for that architecture, or choose another instance type."
    }

    precondition {
      condition     = data.aws_ec2_instance_type.this.hypervisor == "nitro" || data.aws_ec2_instance_type.this.bare_metal
      error_message = "`instance_type` is ${var.instance_type}, which is not on the Nitro hypervisor: its volume has another device name, and the drill would not find it. Choose a current type, such as m7g.large."
    }
  }
}

resource "aws_ebs_volume" "scratch" {
  availability_zone = var.subnet.zone
  type              = "gp3"
  size              = var.scratch_volume.size_gib
  iops              = var.scratch_volume.iops
  throughput        = var.scratch_volume.throughput
  encrypted         = true
  kms_key_id        = var.kms_key_arn

  tags = {
    Name    = "${var.name}-restore-drill-scratch"
    Role    = "restore-drill"
    Purpose = "scratch"
  }
}

resource "aws_volume_attachment" "scratch" {
  device_name                    = "/dev/sdf"
  volume_id                      = aws_ebs_volume.scratch.id
  instance_id                    = aws_instance.this.id
  stop_instance_before_detaching = true
}

# No ingress rule: nothing connects to it.
resource "aws_security_group" "this" {
  name        = "${var.name}-restore-drill"
  description = "Drill host of ${var.name}"
  vpc_id      = var.vpc_id
  tags        = { Name = "${var.name}-restore-drill" }
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

# The gateway endpoint has public addresses.
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
