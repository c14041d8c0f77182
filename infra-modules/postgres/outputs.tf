output "nodes" {
  description = "Nodes by name, for failover-ctl.toml and Ansible's inventory."
  value = {
    for name, node in var.nodes : name => {
      instance_id    = aws_instance.node[name].id
      private_ip     = aws_instance.node[name].private_ip
      zone           = node.zone
      address        = "${name}.${var.private_zone_name}"
      data_volume_id = aws_ebs_volume.this["${name}/data"].id
      wal_volume_id  = aws_ebs_volume.this["${name}/wal"].id
    }
  }
}

output "security_group_id" {
  description = "Security group of the nodes, for rules of other modules."
  value       = aws_security_group.node.id
}
