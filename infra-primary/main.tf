data "aws_caller_identity" "this" {}

locals {
  # By name, since the other region's are not made yet at the first apply.
  bucket_names = {
    backup       = "${local.name}-backup-${local.region}-${data.aws_caller_identity.this.account_id}"
    other_backup = "${local.name}-backup-${var.regions.dr}-${data.aws_caller_identity.this.account_id}"
    lease        = "${local.name}-lease-${data.aws_caller_identity.this.account_id}"
  }

  # Nodes of both regions, by name prefix: adding a node changes no bucket policy, even while the other region is
  # lost.
  node_role_arns = [for region in [var.regions.primary, var.regions.dr] : "arn:aws:iam::${data.aws_caller_identity.this.account_id}:role/${local.name}-postgres-${region}*"]

  # Nodes of both regions: the API finds the primary itself.
  database = {
    hosts               = [for node in local.nodes : node.address]
    cidrs               = concat(module.network.data_cidrs, local.dr.data_cidrs)
    name                = var.database.name
    user                = "api_service"
    password_secret_arn = module.secrets.arns["api-service"]
    ca_certificate_pem  = var.database.ca_certificate_pem
    public_certificates = var.database.public_certificates
  }
  migration        = { user = "api_owner", password_secret_arn = module.secrets.arns["api-owner"] }
  image_repository = "${data.aws_caller_identity.this.account_id}.dkr.ecr.${local.region}.amazonaws.com/${var.project}/api"

  # Tag or digest of the API's image, which the registry replicates to infra-dr's region; null for another registry.
  image_version = try(startswith(var.api.image, local.image_repository), false) ? trimprefix(var.api.image, local.image_repository) : null

  # Backups of a bucket, replaced and deleted ones included, at half of the data volume each.
  kept_backups     = ceil((var.backup.retention_days + var.backup.noncurrent_days + 1) * 24 / var.backup.interval_hours) + 1
  backup_alarm_gib = var.backup.size_alarm_gib == null ? ceil(local.kept_backups * var.database.data_volume.size_gib / 2) : var.backup.size_alarm_gib

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

  # A monitoring host is in a subnet of the first zone, and scrapes both regions. It is replaced within its subnet: one of data or,
  # for a canary, one with a route to the internet, which the data subnets have in a network without endpoints alone.
  has_canary        = try(var.monitoring.canary, false)
  monitoring_tier   = local.has_canary && var.network.endpoints != "none" ? "private" : "data"
  monitoring_cidr   = { data = module.network.data_cidrs, private = module.network.private_cidrs }[local.monitoring_tier][0]
  monitoring        = var.monitoring == null ? null : { cidr = local.monitoring_cidr, address = module.monitoring_host[0].private_ip }
  monitoring_cidrs  = distinct(concat(var.monitoring_cidrs, var.monitoring == null ? [] : [local.monitoring_cidr], local.dr.monitoring[*].cidr))
  further_endpoints = setunion(var.network.further_endpoints, var.monitoring == null ? [] : ["ecs", "sns"])
  regional_name     = "api-${local.region}.${var.dns.public_zone}"
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
  cidr                    = var.cidrs.primary
  zones                   = var.network.zones
  nat                     = var.network.nat
  endpoints               = var.network.endpoints
  further_endpoints       = local.further_endpoints
  allowed_domains         = setunion([var.dns.private_zone], var.network.allowed_domains, local.registries, local.has_canary ? [module.dns.names.api] : [])
  flow_log_retention_days = var.network.flow_log_retention_days
  kms_key_arn             = module.kms.arn
  permissions_boundary    = var.permissions_boundary
  bucket_names            = values(local.bucket_names)
  remote_services = {
    lease  = { service_name = "com.amazonaws.${var.regions.lease}.s3", region = var.regions.lease }
    backup = { service_name = "com.amazonaws.${var.regions.dr}.s3", region = var.regions.dr }
    dns    = { service_name = "com.amazonaws.route53", region = "us-east-1" }
  }
}

module "secrets" {
  source = "../infra-modules/secrets"

  name                 = local.name
  kms_key_arn          = module.kms.arn
  replica              = { region = var.regions.dr, kms_key_arn = module.kms_replica.arn }
  generation           = var.secrets_generation
  recovery_window_days = var.secrets_recovery_days
  secrets = {
    api-owner           = { description = "Password of the role api_owner, which changes the schema" }
    api-service         = { description = "Password of the role api_service, which the API uses" }
    command-signing-key = { description = "Key with which failover-ctl signs its commands to agents", kind = "key", length = 64 }
    monitoring          = { description = "Password of the role monitoring, which the exporter uses" }
    replicator          = { description = "Password of the role replicator, for streaming replication" }
    rewinder            = { description = "Password of the role rewinder, for pg_rewind" }
  }
}

module "kms_replica" {
  source    = "../infra-modules/kms"
  providers = { aws = aws.dr }

  name        = local.name
  alias       = "${local.name}-secrets"
  description = "Copies of the secrets of ${local.region}"
  services    = []
}

module "backup_storage" {
  source = "../infra-modules/backup-storage"

  name                  = local.name
  bucket                = local.bucket_names.backup
  kms_key_arn           = module.kms.arn
  backup_interval_hours = var.backup.interval_hours
  retention_days        = var.backup.retention_days
  object_lock           = var.backup.object_lock
  noncurrent_days       = var.backup.noncurrent_days
  writer_role_arns      = local.node_role_arns
  expirer               = var.backup.expirer
  permissions_boundary  = var.permissions_boundary
  reader_role_arns      = concat(var.backup.reader_role_arns, local.dr.reader_role_arns)
}

module "lease_storage" {
  source    = "../infra-modules/lease-storage"
  providers = { aws = aws.lease }

  name               = local.name
  bucket             = local.bucket_names.lease
  cluster            = var.database.cluster
  database_regions   = [var.regions.primary, var.regions.dr]
  node_role_arns     = local.node_role_arns
  operator_role_arns = var.operator_role_arns
}

module "postgres" {
  source = "../infra-modules/postgres"

  name                   = local.name
  cluster                = var.database.cluster
  vpc_id                 = module.network.vpc_id
  aws_access             = module.network.aws_access
  subnet_ids             = module.network.subnet_ids.data
  subnet_cidrs           = zipmap(var.network.zones, module.network.data_cidrs)
  nodes                  = var.database.nodes
  automatic_failover     = var.database.automatic_failover
  instance_type          = var.database.instance_type
  ami_id                 = var.database.ami_id
  data_volume            = var.database.data_volume
  wal_volume             = var.database.wal_volume
  kms_key_arn            = module.kms.arn
  api_security_group_ids = local.api_security_group_ids
  peer_cidrs             = local.dr.data_cidrs
  monitoring_cidrs       = local.monitoring_cidrs
  pooler                 = var.pooler
  pooler_clients         = var.pooler_clients
  private_zone_id        = module.dns.private_zone_id
  private_zone_name      = var.dns.private_zone
  lease                  = { bucket_arn = module.lease_storage.arn }
  backup                 = { bucket_arns = concat([module.backup_storage.arn], local.dr.backup[*].arn), kms_key_arns = concat([module.kms.arn], local.dr.backup[*].kms_key_arn) }
  secret_arns            = values(module.secrets.arns)
  dns                    = { zone_id = module.dns.private_zone_id, record_names = [module.dns.names.writer] }
  api_dns                = local.has_load_balancer ? { zone_id = module.dns.public_zone_id, record_names = [module.dns.names.api] } : null
  alarm_topic_arn        = module.observability.topic_arn
  permissions_boundary   = var.permissions_boundary
}

module "dns" {
  source = "../infra-modules/dns"

  name               = local.name
  public_zone_name   = var.dns.public_zone
  create_public_zone = var.dns.create_public_zone
  private_zone_name  = var.dns.private_zone
  vpc_ids            = { primary = { id = module.network.vpc_id, region = local.region } }
  writer             = { address = "${keys(var.database.nodes)[0]}.${var.dns.private_zone}" }
  readers            = [for name, node in module.postgres.nodes : node.private_ip if name != keys(var.database.nodes)[0]]
  api                = local.has_load_balancer ? { primary = local.load_balancer } : {}
  ttl_secs           = var.dns.ttl_secs
  health_check       = var.dns.health_check
  alarm_emails       = var.alarms.emails
}

module "certificate" {
  source = "../infra-modules/certificate"
  count  = var.api_platform == "none" ? 0 : 1

  name         = local.name
  zone_id      = module.dns.public_zone_id
  domain_names = [module.dns.names.api, module.dns.names.api_auto, local.regional_name]
}

module "api_ecs" {
  source = "../infra-modules/api-ecs"
  count  = var.api_platform == "ecs" ? 1 : 0

  name                 = local.name
  vpc_id               = module.network.vpc_id
  public_subnet_ids    = values(module.network.subnet_ids.public)
  private_subnet_ids   = values(module.network.subnet_ids.private)
  image                = var.api.image
  architecture         = var.api.architecture
  cpu                  = var.api.cpu
  memory               = var.api.memory
  tasks                = var.api.tasks
  deployment           = var.api.deployment
  bake_time_minutes    = var.api.bake_time_minutes
  scaling              = var.api.scaling
  drain                = var.api.drain
  stop_timeout         = var.api.stop_timeout
  tls_policy           = var.api.tls_policy
  waf                  = var.api.waf
  waf_rule_groups      = var.api.waf_rule_groups
  waf_rate_limit       = var.api.waf_rate_limit
  access_logs_bucket   = var.api.access_logs_bucket
  monitoring_cidrs     = local.monitoring_cidrs
  aws_access           = module.network.aws_access
  connection_limit     = var.api.connection_limit
  settings             = merge({ TRUSTED_PROXIES = join(",", module.network.public_cidrs) }, var.api.settings)
  certificate_arn      = module.certificate[0].arn
  database             = local.database
  migration            = local.migration
  redis                = local.redis
  kms_key_arn          = module.kms.arn
  log_retention_days   = var.log_retention_days
  alarm_topic_arn      = module.observability.topic_arn
  deletion_protection  = var.api.deletion_protection
  permissions_boundary = var.permissions_boundary
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
  migration            = local.migration
  redis                = local.redis
  secret_arns          = concat([local.database.password_secret_arn, local.migration.password_secret_arn], local.redis[*].auth_secret_arn)
  kms_key_arn          = module.kms.arn
  log_retention_days   = var.log_retention_days
  deletion_protection  = var.eks.deletion_protection
  ingress = {
    hosts           = [module.dns.names.api, module.dns.names.api_auto, local.regional_name]
    certificate_arn = module.certificate[0].arn
    subnet_cidrs    = module.network.public_cidrs
    waf_acl_arn     = var.eks.waf_acl_arn
  }
  permissions_boundary = var.permissions_boundary
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
  target_cidrs         = [var.cidrs.primary, var.cidrs.dr]
  peer_addresses       = local.dr.monitoring[*].address
  pooler               = var.pooler
  ecs_cluster_name     = one(module.api_ecs[*].cluster_name)
  alarm_topic_arn      = module.observability.topic_arn
  permissions_boundary = var.permissions_boundary
}

module "observability" {
  source = "../infra-modules/observability"

  name           = local.name
  alarm_emails   = var.alarms.emails
  budget         = var.alarms.monthly_usd == null ? null : { monthly_usd = var.alarms.monthly_usd, emails = var.alarms.emails }
  instances      = { for name, node in module.postgres.nodes : name => node.instance_id }
  replication    = local.dr.replication
  bucket_sizes   = { backup = { bucket = module.backup_storage.bucket, alarm_gib = local.backup_alarm_gib } }
  load_balancers = var.api_platform == "ecs" ? { api = module.api_ecs[0].load_balancer } : {}
  kms_key_arn    = module.kms.arn
}
