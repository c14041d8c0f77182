output "files" {
  description = "Files for Ansible and operators, by name, with descriptions; input of the module parameters."
  value = {
    failover-ctl = {
      description = "Common part of failover-ctl.toml on all nodes and operators' machines"
      value       = templatefile("${path.module}/failover-ctl.toml.tftpl", local.values)
    }
    backup-agent = {
      description = "Common part of backup-agent.toml on the nodes of this region"
      value       = templatefile("${path.module}/backup-agent.toml.tftpl", local.values)
    }
    inventory = {
      description = "Ansible's inventory: every node, by region"
      value       = yamlencode(local.inventory)
    }
  }
}
