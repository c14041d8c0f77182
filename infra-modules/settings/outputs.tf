output "files" {
  description = "What Ansible and operators read, by name, with what it is for; values for the module parameters."
  value = {
    failover-ctl = {
      description = "What failover-ctl.toml has in common on all nodes and on operators' machines"
      value       = templatefile("${path.module}/failover-ctl.toml.tftpl", local.values)
    }
    backup-agent = {
      description = "What backup-agent.toml has in common on the nodes of this region"
      value       = templatefile("${path.module}/backup-agent.toml.tftpl", local.values)
    }
    inventory = {
      description = "Ansible's inventory: every node, by region"
      value       = yamlencode(local.inventory)
    }
  }
}
