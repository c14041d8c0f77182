data "aws_caller_identity" "this" {}

locals {
  # By name, since the other region's are not made yet at the first apply.
  bucket_names = {
    backup       = "${local.name}-backup-${local.region}-${data.aws_caller_identity.this.account_id}"
    other_backup = "${local.name}-backup-${var.regions.primary}-${data.aws_caller_identity.this.account_id}"
    lease        = "${local.name}-lease-${data.aws_caller_identity.this.account_id}"
  }

  # Nodes of both regions, by name prefix: adding a node changes no bucket policy, even while the other region is
  # lost.
  node_role_arns = [for region in [var.regions.primary, var.regions.dr] : "arn:aws:iam::${data.aws_caller_identity.this.account_id}:role/${local.name}-postgres-${region}*"]

  # Nodes of both regions: the API finds the primary itself.
  database = {
    hosts               = [for node in local.nodes : node.address]
    cidrs               = concat(module.network.data_cidrs, local.primary.data_cidrs)
    name                = local.primary.database.name
    user                = "api_service"
    password_secret_arn = local.primary.secrets.arns["api-service"]
    ca_certificate_pem  = local.ca_certificate_pem
    public_certificates = local.primary.database.public_certificates
  }
  migration        = { user = "api_owner", password_secret_arn = local.primary.secrets.arns["api-owner"] }
  image_repository = "${data.aws_caller_identity.this.account_id}.dkr.ecr.${local.region}.amazonaws.com/${var.project}/api"

  # As in infra-primary, unless set here.
  instance_type = coalesce(var.database.instance_type, local.primary.database.instance_type)
  data_volume   = var.database.data_volume == null ? local.primary.database.data_volume : var.database.data_volume
  wal_volume    = var.database.wal_volume == null ? local.primary.database.wal_volume : var.database.wal_volume
  image         = try(var.api.image, null) == null ? "${local.image_repository}${local.primary.image_version == null ? "" : local.primary.image_version}" : var.api.image

  # Number of API tasks on ECS: of a standby region, or of an active one.
  tasks = var.api == null ? null : var.active ? var.api.active_tasks : var.api.tasks

  # Tasks and pods of a standby region reach no primary.
  health_check_path = var.active ? "/readyz" : "/livez"

  # Of the chosen platform, by label.
  api_security_group_ids = merge(
    var.api_platform == "ecs" ? { ecs = module.api_ecs[0].security_group_id } : {},
    var.api_platform == "eks" ? { eks = module.api_eks[0].security_group_id } : {},
  )
  has_load_balancer = var.api_platform == "ecs" || var.api_platform == "eks" && try(var.eks.load_balancer, null) != null
  load_balancer = var.api_platform == "ecs" ? {
    dns_name = module.api_ecs[0].load_balancer.dns_name
    zone_id  = module.api_ecs[0].load_balancer.zone_id
  } : try(var.eks.load_balancer, null)

  # Where the images of EKS's controllers are, and their layers. Their owners alone answer for a name in these domains.
  registries = var.api_platform != "eks" ? [] : ["cloudfront.net", "external-secrets.io", "ghcr.io", "githubusercontent.com", "pkg.dev", "public.ecr.aws", "registry.k8s.io"]

  redis = var.cache == null ? null : {
    host              = module.cache[0].host
    port              = module.cache[0].port
    auth_secret_arn   = module.cache[0].auth_secret_arn
    security_group_id = module.cache[0].security_group_id
    cidrs             = module.network.data_cidrs
  }
  backup = { bucket = module.backup_storage.bucket, arn = module.backup_storage.arn, kms_key_arn = module.kms.arn }

  # A monitoring host is in a subnet of the first zone, and scrapes both regions. It is replaced within its subnet: one of data or,
  # for a canary, one with a route to the internet, which the data subnets have in a network without endpoints alone.
  has_canary        = try(var.monitoring.canary, false)
  monitoring_tier   = local.has_canary && var.network.endpoints != "none" ? "private" : "data"
  monitoring_cidr   = { data = module.network.data_cidrs, private = module.network.private_cidrs }[local.monitoring_tier][0]
  monitoring        = var.monitoring == null ? null : { cidr = local.monitoring_cidr, address = module.monitoring_host[0].private_ip }
  monitoring_cidrs  = distinct(concat(var.monitoring_cidrs, var.monitoring == null ? [] : [local.monitoring_cidr], local.primary.monitoring[*].cidr))
  further_endpoints = setunion(var.network.further_endpoints, var.monitoring == null ? [] : ["ecs", "sns"])
  regional_name     = "api-${local.region}.${local.primary.public_zone.name}"
}

module "kms" {
  source = "../infra-modules/kms"

  name        = local.name
  description = "Volumes, backups, secrets and logs in ${local.region}"
  services    = ["logs", "cloudwatch", "events", "budgets"]
}

module "network" {
  source = "../infra-modules/network"

  name                    = local.name
  cidr                    = local.primary.cidrs.dr
  zones                   = var.network.zones
  nat                     = var.network.nat
  endpoints               = var.network.endpoints
  further_endpoints       = local.further_endpoints
  allowed_domains         = setunion([local.primary.private_zone.name], var.network.allowed_domains, local.registries, local.has_canary ? [local.primary.names.api] : [])
  flow_log_retention_days = var.network.flow_log_retention_days
  kms_key_arn             = module.kms.arn
  permissions_boundary    = local.primary.boundary
  bucket_names            = values(local.bucket_names)
  remote_services = {
    lease  = { service_name = "com.amazonaws.${var.regions.lease}.s3", region = var.regions.lease }
    backup = { service_name = "com.amazonaws.${var.regions.primary}.s3", region = var.regions.primary }
    dns    = { service_name = "com.amazonaws.route53", region = "us-east-1" }
  }
}

module "backup_storage" {
  source = "../infra-modules/backup-storage"

  name                  = local.name
  bucket                = local.bucket_names.backup
  kms_key_arn           = module.kms.arn
  backup_interval_hours = local.primary.retention.interval_hours
  retention_days        = local.primary.retention.retention_days
  object_lock           = local.primary.retention.object_lock
  noncurrent_days       = local.primary.retention.noncurrent_days
  writer_role_arns      = local.node_role_arns
  expirer               = local.primary.retention.expirer
  permissions_boundary  = local.primary.boundary
  reader_role_arns      = concat(var.backup.reader_role_arns, module.drill_host[*].role_arn)
}

module "postgres" {
  source = "../infra-modules/postgres"

  name                   = local.name
  cluster                = local.primary.cluster
  vpc_id                 = module.network.vpc_id
  aws_access             = module.network.aws_access
  subnet_ids             = module.network.subnet_ids.data
  subnet_cidrs           = zipmap(var.network.zones, module.network.data_cidrs)
  nodes                  = var.database.nodes
  automatic_failover     = false
  instance_type          = local.instance_type
  ami_id                 = var.database.ami_id
  data_volume            = local.data_volume
  wal_volume             = local.wal_volume
  kms_key_arn            = module.kms.arn
  api_security_group_ids = local.api_security_group_ids
  peer_cidrs             = local.primary.data_cidrs
  monitoring_cidrs       = local.monitoring_cidrs
  pooler                 = local.primary.pooler
  pooler_clients         = var.pooler_clients
  private_zone_id        = local.primary.private_zone.id
  private_zone_name      = local.primary.private_zone.name
  lease                  = { bucket_arn = local.primary.lease.arn }
  backup                 = { bucket_arns = [module.backup_storage.arn, local.primary.backup.arn], kms_key_arns = [module.kms.arn, local.primary.backup.kms_key_arn] }
  secret_arns            = values(local.primary.secrets.arns)
  secret_kms_key_arns    = [local.primary.secrets.kms_key_arn]
  dns                    = { zone_id = local.primary.private_zone.id, record_names = [local.primary.names.writer] }
  api_dns                = local.has_load_balancer ? { zone_id = local.primary.public_zone.id, record_names = [local.primary.names.api] } : null
  alarm_topic_arn        = module.observability.topic_arn
  permissions_boundary   = local.primary.boundary
}

# Identity that decrypts backups for the drill only. An operator stores it.
module "drill_secrets" {
  source = "../infra-modules/secrets"
  count  = var.restore_drill == null ? 0 : 1

  name                 = local.name
  kms_key_arn          = module.kms.arn
  recovery_window_days = local.primary.recovery_days
  secrets              = { restore-drill-identity = { description = "Identity file with which the restore drill decrypts backups", kind = "given" } }
}

module "drill_host" {
  source = "../infra-modules/drill-host"
  count  = var.restore_drill == null ? 0 : 1

  name                 = local.name
  cluster              = local.primary.cluster
  vpc_id               = module.network.vpc_id
  aws_access           = module.network.aws_access
  subnet               = { id = module.network.subnet_ids.data[var.network.zones[0]], zone = var.network.zones[0] }
  instance_type        = var.restore_drill.instance_type
  ami_id               = var.restore_drill.ami_id
  scratch_volume       = var.restore_drill.scratch_volume
  monitoring_cidrs     = local.monitoring_cidrs
  kms_key_arn          = module.kms.arn
  backup               = { bucket_arns = [module.backup_storage.arn, local.primary.backup.arn], kms_key_arns = [module.kms.arn, local.primary.backup.kms_key_arn] }
  identity_secret_arn  = module.drill_secrets[0].arns["restore-drill-identity"]
  permissions_boundary = local.primary.boundary
}

module "dns" {
  source = "../infra-modules/dns-region"

  name           = local.name
  role           = "SECONDARY"
  private_zone   = { id = local.primary.private_zone.id, vpc_id = module.network.vpc_id, region = local.region }
  public_zone_id = local.primary.public_zone.id
  record_name    = local.primary.names.api_auto
  regional_name  = local.regional_name
  api            = local.load_balancer
  health_check   = local.primary.dns.health_check
}

module "certificate" {
  source = "../infra-modules/certificate"
  count  = var.api_platform == "none" ? 0 : 1

  name         = local.name
  zone_id      = local.primary.public_zone.id
  domain_names = [local.primary.names.api, local.primary.names.api_auto, local.regional_name]
  owned_names  = [local.regional_name] # infra-primary proves the others, for both regions
}

module "api_ecs" {
  source = "../infra-modules/api-ecs"
  count  = var.api_platform == "ecs" ? 1 : 0

  name                 = local.name
  vpc_id               = module.network.vpc_id
  public_subnet_ids    = values(module.network.subnet_ids.public)
  private_subnet_ids   = values(module.network.subnet_ids.private)
  image                = local.image
  architecture         = var.api.architecture
  cpu                  = var.api.cpu
  memory               = var.api.memory
  tasks                = local.tasks
  deployment           = var.api.deployment
  bake_time_minutes    = var.api.bake_time_minutes
  scaling              = var.api.scaling
  drain                = var.api.drain
  stop_timeout         = var.api.stop_timeout
  tls_policy           = var.api.tls_policy
  health_check_path    = local.health_check_path
  waf                  = var.api.waf
  waf_rule_groups      = var.api.waf_rule_groups
  waf_rate_limit       = var.api.waf_rate_limit
  access_logs_bucket   = var.api.access_logs_bucket
  monitoring_cidrs     = local.monitoring_cidrs
  aws_access           = module.network.aws_access
  connection_limit     = var.active ? var.api.connection_limit : var.api.waiting_connection_limit
  settings             = merge({ TRUSTED_PROXIES = join(",", module.network.public_cidrs) }, var.api.settings)
  certificate_arn      = module.certificate[0].arn
  database             = local.database
  migration            = local.migration
  redis                = local.redis
  kms_key_arn          = module.kms.arn
  secret_kms_key_arns  = [local.primary.secrets.kms_key_arn]
  log_retention_days   = var.log_retention_days
  alarm_topic_arn      = module.observability.topic_arn
  deletion_protection  = var.api.deletion_protection
  permissions_boundary = local.primary.boundary
}

module "api_eks" {
  source = "../infra-modules/api-eks"
  count  = var.api_platform == "eks" ? 1 : 0

  name                 = local.name
  private_subnet_ids   = values(module.network.subnet_ids.private)
  nat                  = var.network.nat
  kubernetes_version   = var.eks.kubernetes_version
  support_type         = var.eks.support_type
  node                 = var.eks.node
  admin_role_arns      = var.eks.admin_role_arns
  viewer_role_arns     = var.eks.viewer_role_arns
  public_access_cidrs  = var.eks.public_access_cidrs
  private_access_cidrs = var.eks.private_access_cidrs
  settings             = var.eks.settings
  image_repository     = local.image_repository
  database             = local.database
  migration            = merge(local.migration, { enabled = var.active })
  health_check_path    = local.health_check_path
  redis                = local.redis
  secret_arns          = concat([local.database.password_secret_arn, local.migration.password_secret_arn], local.redis[*].auth_secret_arn)
  kms_key_arn          = module.kms.arn
  secret_kms_key_arns  = [local.primary.secrets.kms_key_arn]
  log_retention_days   = var.log_retention_days
  deletion_protection  = var.eks.deletion_protection
  ingress = {
    hosts           = [local.primary.names.api, local.primary.names.api_auto, local.regional_name]
    certificate_arn = module.certificate[0].arn
    subnet_cidrs    = module.network.public_cidrs
    waf_acl_arn     = var.eks.waf_acl_arn
  }
  permissions_boundary = local.primary.boundary
}

module "cache" {
  source = "../infra-modules/cache"
  count  = var.cache == null ? 0 : 1

  name                      = local.name
  vpc_id                    = module.network.vpc_id
  subnet_ids                = values(module.network.subnet_ids.data)
  client_security_group_ids = local.api_security_group_ids
  node_type                 = var.cache.node_type
  replicas                  = var.cache.replicas
  engine_version            = var.cache.engine_version
  auth_version              = var.cache.auth_version
  kms_key_arn               = module.kms.arn
}

module "monitoring_host" {
  source = "../infra-modules/monitoring-host"
  count  = var.monitoring == null ? 0 : 1

  name                 = local.name
  vpc_id               = module.network.vpc_id
  subnet_id            = module.network.subnet_ids[local.monitoring_tier][var.network.zones[0]]
  canary               = var.monitoring.canary
  instance_type        = var.monitoring.instance_type
  ami_id               = var.monitoring.ami_id
  volume_size_gib      = var.monitoring.volume_size_gib
  kms_key_arn          = module.kms.arn
  aws_access           = module.network.aws_access
  target_cidrs         = [local.primary.cidrs.primary, local.primary.cidrs.dr]
  peer_addresses       = local.primary.monitoring[*].address
  pooler               = local.primary.pooler
  ecs_cluster_name     = one(module.api_ecs[*].cluster_name)
  alarm_topic_arn      = module.observability.topic_arn
  permissions_boundary = local.primary.boundary
}

module "observability" {
  source = "../infra-modules/observability"

  name           = local.name
  alarm_emails   = var.alarms.emails
  budget         = var.alarms.monthly_usd == null ? null : { monthly_usd = var.alarms.monthly_usd, emails = var.alarms.emails }
  instances      = { for name, node in module.postgres.nodes : name => node.instance_id }
  replication    = module.replication_to_primary[*].rule
  bucket_sizes   = { backup = { bucket = module.backup_storage.bucket, alarm_gib = local.primary.retention.size_alarm_gib } }
  load_balancers = var.api_platform == "ecs" ? { api = module.api_ecs[0].load_balancer } : {}
  kms_key_arn    = module.kms.arn
}

module "peering" {
  source = "../infra-modules/peering"

  name      = local.name
  requester = { vpc_id = module.network.vpc_id, cidr = module.network.cidr, route_table_ids = module.network.route_table_ids }
  accepter  = { vpc_id = local.primary.vpc_id, cidr = local.primary.cidr, region = var.regions.primary, route_table_ids = local.primary.route_table_ids }
}

module "replication_to_primary" {
  source = "../infra-modules/backup-replication"
  count  = local.primary.retention.replication ? 1 : 0

  name                 = local.name
  source_bucket        = local.backup
  destination          = merge(local.primary.backup, { region = var.regions.primary })
  permissions_boundary = local.primary.boundary
}

module "replication_from_primary" {
  source    = "../infra-modules/backup-replication"
  providers = { aws = aws.primary }
  count     = local.primary.retention.replication ? 1 : 0

  name                 = local.name
  source_bucket        = local.primary.backup
  destination          = merge(local.backup, { region = local.region })
  permissions_boundary = local.primary.boundary
}
