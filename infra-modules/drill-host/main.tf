# The drill host and its scratch volume. Neither contains data to keep.

data "aws_region" "this" {}

module "host" {
  source = "../private-host"

  name                 = var.name
  role                 = "restore-drill"
  title                = "Drill host"
  vpc_id               = var.vpc_id
  subnet_id            = var.subnet.id
  instance_type        = var.instance_type
  ami_id               = var.ami_id
  root_volume_size_gib = 20
  kms_key_arn          = var.kms_key_arn
  aws_access           = var.aws_access
  permissions_boundary = var.permissions_boundary
}

# When the last restore was verified, and how long it took. The host's other metrics are not scraped: it runs for an hour a day.
resource "aws_vpc_security_group_ingress_rule" "monitoring" {
  for_each = toset(var.monitoring_cidrs)

  security_group_id = module.host.security_group_id
  description       = "Node exporter from Prometheus"
  ip_protocol       = "tcp"
  from_port         = var.node_exporter_port
  to_port           = var.node_exporter_port
  cidr_ipv4         = each.value
}

data "aws_ec2_instance_type" "this" {
  instance_type = var.instance_type
}

check "volume_fits_the_instance_type" {
  assert {
    condition     = (var.scratch_volume.iops <= 3000 || var.scratch_volume.iops <= data.aws_ec2_instance_type.this.ebs_performance_baseline_iops) && (var.scratch_volume.throughput <= 125 || var.scratch_volume.throughput * 1.048576 <= data.aws_ec2_instance_type.this.ebs_performance_baseline_throughput)
    error_message = "The scratch volume has ${var.scratch_volume.iops} IOPS and ${var.scratch_volume.throughput} MiB/s, and ${var.instance_type} sustains ${data.aws_ec2_instance_type.this.ebs_performance_baseline_iops} and ${floor(data.aws_ec2_instance_type.this.ebs_performance_baseline_throughput / 1.048576)}: the rest is paid and used for half an hour a day at most. Lower them, or choose a larger instance type."
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
  instance_id                    = module.host.instance_id
  stop_instance_before_detaching = true

  lifecycle {
    precondition {
      condition     = data.aws_ec2_instance_type.this.hypervisor == "nitro" || data.aws_ec2_instance_type.this.bare_metal
      error_message = "`instance_type` is ${var.instance_type}, which is not on the Nitro hypervisor: its volume has another device name, and the drill would not find it. Choose a current type, such as m7g.large."
    }
  }
}
