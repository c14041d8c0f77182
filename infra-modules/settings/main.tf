locals {
  values = {
    cluster        = var.cluster
    primary_region = var.primary_region
    nodes          = var.nodes
    ports          = var.ports
    lease          = var.lease
    buckets        = var.backup_buckets
    dns            = var.dns
  }

  # One group per region, as in ansible/inventories/static-example.
  inventory = {
    all = {
      children = merge(var.pooler ? { pooler = { children = { postgres = {} } } } : {}, {
        postgres = {
          children = {
            for region in distinct([for node in var.nodes : node.region]) : replace(region, "-", "_") => {
              hosts = {
                for name, node in var.nodes : name => {
                  ansible_host   = node.instance_id
                  region         = node.region
                  zone           = node.zone
                  address        = node.address
                  private_ip     = node.private_ip
                  data_volume_id = node.data_volume_id
                  wal_volume_id  = node.wal_volume_id
                } if node.region == region
              }
            }
          }
        }
      })
    }
  }
}
