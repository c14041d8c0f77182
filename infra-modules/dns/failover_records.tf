# Records that failover-ctl owns. Terraform creates them once, so that the names exist before the first failover, and
# ignores their values from then on: one name has one owner.
#
# Each has a TXT record `_epoch.<name>` with the epoch under which it was moved. Every epoch of a lease is above 0,
# so the first move replaces it.

locals {
  names = {
    writer   = "db-writer.${var.private_zone_name}"
    reader   = "db-reader.${var.private_zone_name}"
    api      = "api.${var.public_zone_name}"
    api_auto = "api-auto.${var.public_zone_name}"
  }

  failover_records = merge(
    {
      writer = {
        zone_id = aws_route53_zone.private.zone_id
        name    = local.names.writer
        # An address becomes an A record, a name a CNAME, as in failover-ctl.
        type   = can(cidrhost("${var.writer.address}/32", 0)) ? "A" : "CNAME"
        values = [var.writer.address]
      }
    },
    length(var.readers) == 0 ? {} : {
      reader = {
        zone_id = aws_route53_zone.private.zone_id
        name    = local.names.reader
        type    = "A"
        values  = var.readers
      }
    },
    length(var.api) == 0 ? {} : {
      api = {
        zone_id = local.public_zone_id
        name    = local.names.api
        type    = "CNAME"
        values  = [var.api["primary"].dns_name]
      }
    },
  )
}

resource "aws_route53_record" "failover" {
  for_each = local.failover_records

  zone_id = each.value.zone_id
  name    = each.value.name
  type    = each.value.type
  ttl     = var.ttl_secs
  records = each.value.values

  lifecycle {
    ignore_changes = [records, ttl, type]
  }
}

resource "aws_route53_record" "epoch" {
  for_each = local.failover_records

  zone_id = each.value.zone_id
  name    = "_epoch.${each.value.name}"
  type    = "TXT"
  ttl     = var.ttl_secs
  records = ["epoch=0"]

  lifecycle {
    ignore_changes = [records, ttl]
  }
}
