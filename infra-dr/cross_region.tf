# Values shared with infra-primary: parameters in the third region, so that neither root needs the other's
# region or state.

data "aws_ssm_parameters_by_path" "primary" {
  provider = aws.lease
  path     = "/${local.name}/primary"

  lifecycle {
    postcondition {
      condition     = contains(self.names, "/${local.name}/primary/shared-values")
      error_message = "infra-primary has not been applied: there is no parameter /${local.name}/primary/shared-values in ${var.regions.lease}. Apply infra-primary first, with the same project, environment and regions."
    }

    postcondition {
      condition     = !contains(self.names, "/${local.name}/primary/shared-values") || try(jsondecode(zipmap(self.names, nonsensitive(self.values))["/${local.name}/primary/shared-values"]).regions == { for role, region in var.regions : role => region }, false)
      error_message = "infra-primary has other regions than ${jsonencode(var.regions)}, or was applied by an earlier version: set the same `regions` in both roots, and apply infra-primary first."
    }

    postcondition {
      condition = (
        var.api_platform != "ecs" || try(var.api.image, null) != null || !contains(self.names, "/${local.name}/primary/shared-values") ||
        try(jsondecode(zipmap(self.names, nonsensitive(self.values))["/${local.name}/primary/shared-values"]).image_version, null) != null
      )
      error_message = "api.image is not set, and infra-primary's image is not in the account's registry, which replicates it: name an image that ${var.regions.dr} has."
    }

    # Only infra-primary writes these records, and the apply would wait for them for 75 minutes.
    postcondition {
      condition = (
        var.api_platform == "none" || !contains(self.names, "/${local.name}/primary/shared-values") ||
        try(length(jsondecode(zipmap(self.names, nonsensitive(self.values))["/${local.name}/primary/shared-values"]).validated_names) > 0, false)
      )
      error_message = "api_platform is `${var.api_platform}`, and infra-primary has no API, whose records validate this root's certificate. Set api_platform in infra-primary and apply that first, or set it to none here."
    }
  }
}

locals {
  primary_parameters = zipmap(data.aws_ssm_parameters_by_path.primary.names, nonsensitive(data.aws_ssm_parameters_by_path.primary.values))
  primary            = jsondecode(local.primary_parameters["/${local.name}/primary/shared-values"])
  ca_certificate_pem = lookup(local.primary_parameters, "/${local.name}/primary/ca-certificate", null)

  nodes = merge({ for name, node in module.postgres.nodes : name => merge(node, { region = local.region }) }, local.primary.nodes)
}

module "shared_values" {
  source    = "../infra-modules/parameters"
  providers = { aws = aws.lease }

  path = "/${local.name}/dr"
  values = {
    shared-values = {
      description = "Values of the DR region for infra-primary"
      value = jsonencode({
        data_cidrs       = module.network.data_cidrs
        monitoring       = local.monitoring
        nodes            = { for name, node in local.nodes : name => node if node.region == local.region }
        reader_role_arns = module.drill_host[*].role_arn
        backup           = local.backup
        replication      = module.replication_from_primary[*].rule
        api_target       = local.has_load_balancer ? local.regional_name : null
      })
    }
    deploy = {
      description = "Values of the DR region for deployments of the API"
      value = jsonencode({
        region           = local.region
        cluster          = one(module.api_ecs[*].cluster_name)
        service          = one(module.api_ecs[*].service_name)
        migration        = null
        image_repository = local.image_repository
        url              = local.has_load_balancer ? "https://${local.regional_name}" : null
      })
    }
  }
}

module "drill_parameter" {
  source    = "../infra-modules/parameters"
  providers = { aws = aws.lease }
  count     = var.restore_drill == null ? 0 : 1

  path = "/${local.name}/dr"
  values = {
    restore-drill = {
      description = "Host of restore drills, for scripts/deploy/restore-drill"
      value = jsonencode({
        region            = local.region
        instance_id       = module.drill_host[0].instance_id
        scratch_volume_id = module.drill_host[0].scratch_volume_id
      })
    }
  }
}

module "settings" {
  source = "../infra-modules/settings"

  cluster        = local.primary.cluster
  primary_region = var.regions.primary
  nodes          = local.nodes
  pooler         = local.primary.pooler
  lease          = { bucket = local.primary.lease.bucket, region = local.primary.lease.region }
  backup_buckets = [{ name = module.backup_storage.bucket, region = local.region }, { name = local.primary.backup.bucket, region = var.regions.primary }]
  dns = {
    zone_id  = local.primary.private_zone.id
    writer   = local.primary.names.writer
    ttl_secs = local.primary.dns.ttl_secs
    api = local.has_load_balancer && local.primary.api_target != null ? {
      name    = local.primary.names.api
      zone_id = local.primary.public_zone.id
      targets = { (local.region) = local.regional_name, (var.regions.primary) = local.primary.api_target }
    } : null
  }
}

module "parameters" {
  source = "../infra-modules/parameters"

  path   = "/${local.name}"
  values = module.settings.files
}
