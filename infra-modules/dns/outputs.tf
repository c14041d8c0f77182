output "private_zone_id" {
  description = "The private zone: `[dns] zone-id` in failover-ctl.toml, and where nodes get their names."
  value       = aws_route53_zone.private.zone_id
}

output "public_zone_id" {
  description = "The public zone, for certificates and for the other region's record."
  value       = local.public_zone_id
}

output "public_name_servers" {
  description = "What the registrar is told of a zone that was made here; empty for one that was there."
  value       = var.create_public_zone ? aws_route53_zone.public[0].name_servers : []
}

output "names" {
  description = "Full names of the records: writer, reader, api (moved by failover-ctl) and api_auto (by health checks)."
  value       = local.names
}

output "failover_record_names" {
  description = "Names that failover-ctl may change in the private and in the public zone, with their epochs, for the nodes' policies."
  value = {
    for zone, labels in { private = ["writer", "reader"], public = ["api"] } : zone => flatten([
      for key in labels : [local.failover_records[key].name, "_epoch.${local.failover_records[key].name}"] if contains(keys(local.failover_records), key)
    ])
  }
}
