# The record that fails over automatically by Route 53's health checks. Terraform owns it.
module "api" {
  source   = "../dns-region"
  for_each = var.api

  name           = var.name
  role           = upper(each.key)
  public_zone_id = local.public_zone_id
  record_name    = local.names.api_auto
  regional_name  = try("api-${var.vpc_ids[each.key].region}.${var.public_zone_name}", null)
  api            = each.value
  health_check   = var.health_check
  # A standby region's API is not ready, as it should be.
  alarm_emails = each.key == "primary" ? var.alarm_emails : []
}
