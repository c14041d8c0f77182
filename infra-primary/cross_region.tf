# Values shared with infra-dr: parameters in the third region, so that neither root needs the other's region or
# state. The DR region's values exist once infra-dr has been applied.

data "aws_ssm_parameters_by_path" "dr" {
  provider = aws.lease
  path     = "/${local.name}/dr"

  lifecycle {
    postcondition {
      condition     = var.api_platform != "none" || try(jsondecode(zipmap(self.names, nonsensitive(self.values))["/${local.name}/dr/shared-values"]).api_target, null) == null
      error_message = "api_platform is `none`, and infra-dr has an API: records of this root validate its certificate, which could not be renewed without them. Set api_platform to none in infra-dr, and apply that first."
    }
  }
}

locals {
  dr_parameters = zipmap(data.aws_ssm_parameters_by_path.dr.names, nonsensitive(data.aws_ssm_parameters_by_path.dr.values))
  dr = merge(
    { data_cidrs = [], monitoring = null, reader_role_arns = [], nodes = {}, backup = null, replication = [], api_target = null },
    jsondecode(lookup(local.dr_parameters, "/${local.name}/dr/shared-values", "{}")),
  )

  nodes = merge({ for name, node in module.postgres.nodes : name => merge(node, { region = local.region }) }, local.dr.nodes)
}

check "dr" {
  assert {
    condition     = contains(keys(local.dr_parameters), "/${local.name}/dr/shared-values")
    error_message = "infra-dr has not been applied for ${local.name}: its nodes, bucket and networks are unknown here. Run `scripts/deploy/infra plan` and `apply` with `--root infra-dr --environment ${var.environment}`, and then both once more with `--root infra-primary`."
  }
}

module "shared_values" {
  source    = "../infra-modules/parameters"
  providers = { aws = aws.lease }

  path = "/${local.name}/primary"
  values = merge(var.database.ca_certificate_pem == null ? {} : {
    ca-certificate = {
      description = "CA certificates of the database nodes of both regions"
      value       = trimspace(var.database.ca_certificate_pem)
    }
    }, {
    shared-values = {
      description = "Values of the primary region for infra-dr"
      value = jsonencode({
        vpc_id          = module.network.vpc_id
        cidr            = module.network.cidr
        route_table_ids = module.network.route_table_ids
        data_cidrs      = module.network.data_cidrs
        monitoring      = local.monitoring
        nodes           = { for name, node in local.nodes : name => node if node.region == local.region }
        cluster         = var.database.cluster
        regions         = var.regions
        cidrs           = var.cidrs
        database        = { name = var.database.name, public_certificates = var.database.public_certificates, instance_type = var.database.instance_type, data_volume = var.database.data_volume, wal_volume = var.database.wal_volume }
        pooler          = var.pooler
        retention       = merge({ for key, value in var.backup : key => value if key != "reader_role_arns" }, { size_alarm_gib = local.backup_alarm_gib })
        image_version   = local.image_version
        boundary        = var.permissions_boundary
        recovery_days   = var.secrets_recovery_days
        lease           = { bucket = module.lease_storage.bucket, arn = module.lease_storage.arn, region = module.lease_storage.region }
        backup          = { bucket = module.backup_storage.bucket, arn = module.backup_storage.arn, kms_key_arn = module.kms.arn }
        secrets         = { arns = module.secrets.replica_arns, kms_key_arn = module.kms_replica.arn }
        private_zone    = { id = module.dns.private_zone_id, name = var.dns.private_zone }
        public_zone     = { id = module.dns.public_zone_id, name = var.dns.public_zone }
        names           = module.dns.names
        dns             = { ttl_secs = var.dns.ttl_secs, health_check = var.dns.health_check }
        validated_names = flatten(module.certificate[*].validated_names)
        api_target      = local.has_load_balancer ? local.regional_name : null
      })
    }
    deploy = {
      description = "Values of the primary region for deployments of the API"
      value = jsonencode({
        region           = local.region
        cluster          = one(module.api_ecs[*].cluster_name)
        service          = one(module.api_ecs[*].service_name)
        migration        = one(module.api_ecs[*].migration_family)
        image_repository = local.image_repository
        url              = local.has_load_balancer ? "https://${module.dns.names.api}" : null
      })
    }
  })
}

module "settings" {
  source = "../infra-modules/settings"

  cluster        = var.database.cluster
  primary_region = var.regions.primary
  nodes          = local.nodes
  pooler         = var.pooler
  lease          = { bucket = module.lease_storage.bucket, region = module.lease_storage.region }
  backup_buckets = concat([{ name = module.backup_storage.bucket, region = local.region }], [for it in local.dr.backup[*] : { name = it.bucket, region = var.regions.dr }])
  dns = {
    zone_id  = module.dns.private_zone_id
    writer   = module.dns.names.writer
    ttl_secs = var.dns.ttl_secs
    api = local.has_load_balancer && local.dr.api_target != null ? {
      name    = module.dns.names.api
      zone_id = module.dns.public_zone_id
      targets = { (local.region) = local.regional_name, (var.regions.dr) = local.dr.api_target }
    } : null
  }
}

module "parameters" {
  source = "../infra-modules/parameters"

  path   = "/${local.name}"
  values = module.settings.files
}
