# What is installed with Helm, which this module does not run: the cluster's API may be out of Terraform's reach.

locals {
  secret_store = "aws-secrets-manager"

  chart_values = {
    image          = { repository = var.image_repository }
    readinessProbe = { httpGet = { path = var.health_check_path } }
    database = {
      hosts    = var.database.hosts
      port     = var.database.port
      name     = var.database.name
      user     = var.database.user
      ca       = { certificate = var.database.ca_certificate_pem }
      password = { remoteRef = var.database.password_secret_arn }
    }
    migration = {
      enabled  = var.migration.enabled
      user     = var.migration.user
      password = { remoteRef = var.migration.password_secret_arn }
    }
    redis = {
      host     = var.redis == null ? "" : var.redis.host
      port     = var.redis == null ? 6379 : var.redis.port
      password = { remoteRef = var.redis == null ? "" : var.redis.auth_secret_arn }
    }
    externalSecrets = { store = { kind = "ClusterSecretStore", name = local.secret_store } }

    # A load balancer deregisters a pod more slowly than kube-proxy; requests take at most 8 s.
    shutdown = { delaySeconds = 15, timeoutSeconds = 10 }

    # The load balancer's addresses are those of its subnets.
    extraEnv = merge({ LOG_FORMAT = "json", TRUSTED_PROXIES = join(",", var.ingress.subnet_cidrs) }, var.settings)
    ingress = {
      enabled        = true
      hosts          = [for host in var.ingress.hosts : { host = host, paths = [{ path = "/", pathType = "Prefix" }] }]
      scheme         = var.ingress.scheme
      certificateArn = var.ingress.certificate_arn
      wafAclArn      = var.ingress.waf_acl_arn
    }
    networkPolicy = {
      clients       = [for cidr in var.ingress.subnet_cidrs : { ipBlock = { cidr = cidr } }]
      databaseCidrs = var.database.cidrs
      redisCidrs    = var.redis == null ? [] : var.redis.cidrs
    }
  }

  controller_values = {
    # Without `region` and `vpcId` it asks IMDS, which pods cannot reach. Its role lacks Shield and WAF Classic.
    aws-load-balancer-controller = {
      clusterName    = aws_eks_cluster.this.name
      region         = local.region
      vpcId          = aws_eks_cluster.this.vpc_config[0].vpc_id
      enableShield   = false
      enableWaf      = false
      serviceAccount = { create = true, name = local.controllers.load-balancer.service_account }
    }
    cluster-autoscaler = {
      cloudProvider = "aws"
      awsRegion     = local.region
      autoDiscovery = { clusterName = aws_eks_cluster.this.name }
      rbac          = { serviceAccount = { create = true, name = local.controllers.autoscaler.service_account } }
    }
    external-secrets = {
      installCRDs    = true
      serviceAccount = { create = true, name = local.controllers.secrets.service_account }
    }
  }

  cluster_secret_store = {
    apiVersion = "external-secrets.io/v1"
    kind       = "ClusterSecretStore"
    metadata   = { name = local.secret_store }
    spec       = { provider = { aws = { service = "SecretsManager", region = local.region } } }
  }
}
