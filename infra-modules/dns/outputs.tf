output "private_zone_id" {
  description = "Private zone, for `[dns] zone-id` in failover-ctl.toml and the nodes' names."
  value       = aws_route53_zone.private.zone_id
}

output "public_zone_id" {
  description = "Public zone, for certificates and the other region's record."
  value       = local.public_zone_id
}

output "public_name_servers" {
  description = "Name servers for the registrar, of a zone that was created here; otherwise empty."
  value       = var.create_public_zone ? aws_route53_zone.public[0].name_servers : []
}

output "names" {
  description = "Full names of the records: writer, reader, api (moved by failover-ctl) and api_auto (by health checks)."
  value       = local.names
}

output "failover_record_names" {
  description = "Records that failover-ctl may change in the private and in the public zone, with their epoch records, for the nodes' policies."
  value = {
    for zone, labels in { private = ["writer", "reader"], public = ["api"] } : zone => flatten([
      for key in labels : [local.failover_records[key].name, "_epoch.${local.failover_records[key].name}"] if contains(keys(local.failover_records), key)
    ])
  }
}
