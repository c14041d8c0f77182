# Volumes of the data directory and of the WAL. They outlive their instance, and Ansible mounts them by id.

locals {
  volumes = merge([
    for node, it in var.nodes : {
      "${node}/data" = { node = node, zone = it.zone, purpose = "data", device = "/dev/sdf", size = var.data_volume }
      "${node}/wal"  = { node = node, zone = it.zone, purpose = "wal", device = "/dev/sdg", size = var.wal_volume }
    }
  ]...)
}

resource "aws_ebs_volume" "this" {
  for_each = local.volumes

  availability_zone = each.value.zone
  type              = "gp3"
  size              = each.value.size.size_gib
  iops              = each.value.size.iops
  throughput        = each.value.size.throughput
  encrypted         = true
  kms_key_id        = var.kms_key_arn
  final_snapshot    = true

  tags = {
    Name    = "${var.name}-${each.value.node}-${each.value.purpose}"
    Cluster = local.cluster_tag
    Node    = each.value.node
    Purpose = each.value.purpose
  }

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_volume_attachment" "this" {
  for_each = local.volumes

  device_name                    = each.value.device
  volume_id                      = aws_ebs_volume.this[each.key].id
  instance_id                    = aws_instance.node[each.value.node].id
  stop_instance_before_detaching = true
}
