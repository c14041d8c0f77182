mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name               = "causeway-test"
  private_subnet_ids = ["subnet-1a", "subnet-1b"]
  kubernetes_version = "1.36"
  nat                = "one"
  node               = { instance_types = ["m7i.large"], min = 2, desired = 3, max = 6 }
  kms_key_arn        = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  admin_role_arns    = ["arn:aws:iam::123456789012:role/admin"]
  secret_arns = [
    "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/api-service-AbCdEf",
    "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/api-owner-AbCdEf",
  ]
  image_repository = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/causeway/api"
  database = {
    hosts               = ["eu-west-1a-1.causeway.internal", "eu-west-1b-1.causeway.internal"]
    cidrs               = ["10.1.128.0/20"]
    name                = "causeway"
    user                = "api_service"
    password_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/api-service-AbCdEf"
    ca_certificate_pem  = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
  }
  ingress = {
    hosts           = ["api.example.com", "api-eu-west-1.example.com"]
    certificate_arn = "arn:aws:acm:eu-west-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"
    subnet_cidrs    = ["10.1.0.0/20", "10.1.16.0/20"]
  }
  migration = {
    user                = "api_owner"
    password_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/api-owner-AbCdEf"
  }
}

run "the_cluster_is_closed_and_encrypted" {
  command = plan

  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_private_access && !aws_eks_cluster.this.vpc_config[0].endpoint_public_access
    error_message = "without named networks the Kubernetes API must be reachable from the VPC only"
  }

  assert {
    condition     = aws_eks_cluster.this.encryption_config[0].resources == toset(["secrets"]) && aws_eks_cluster.this.encryption_config[0].provider[0].key_arn == var.kms_key_arn
    error_message = "Kubernetes' secrets must be encrypted with the given key"
  }

  assert {
    condition     = length(aws_eks_cluster.this.enabled_cluster_log_types) == 5 && aws_cloudwatch_log_group.this.retention_in_days == 365
    error_message = "the control plane must write all logs, with a retention"
  }

  assert {
    condition     = aws_eks_cluster.this.access_config[0].authentication_mode == "API" && !aws_eks_cluster.this.access_config[0].bootstrap_cluster_creator_admin_permissions && toset(keys(aws_eks_access_entry.this)) == toset(var.admin_role_arns)
    error_message = "only the named roles may administer the cluster"
  }
}

run "named_networks_reach_the_kubernetes_api" {
  command = plan

  variables {
    public_access_cidrs = ["203.0.113.0/24"]
  }

  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_public_access && aws_eks_cluster.this.vpc_config[0].public_access_cidrs == toset(["203.0.113.0/24"])
    error_message = "only the named networks may reach the Kubernetes API"
  }
}

run "a_pod_has_no_rights_of_its_node" {
  command = plan

  assert {
    condition     = aws_launch_template.node.metadata_options[0].http_tokens == "required" && aws_launch_template.node.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "a node must require IMDSv2 with a hop limit of 1"
  }

  assert {
    condition     = tobool(aws_launch_template.node.block_device_mappings[0].ebs[0].encrypted)
    error_message = "a node's disk must be encrypted"
  }

  assert {
    condition     = !contains(local.roles.node.policies, "AmazonEKS_CNI_Policy") && length(aws_eks_addon.before_nodes["vpc-cni"].pod_identity_association) == 1
    error_message = "the network must have a role of its own"
  }

  assert {
    condition     = jsondecode(aws_eks_addon.before_nodes["vpc-cni"].configuration_values).enableNetworkPolicy == "true"
    error_message = "the chart's network policy must be enforced"
  }
}

run "only_its_own_secrets_are_read" {
  command = plan

  assert {
    condition = alltrue([
      for it in data.aws_iam_policy_document.secrets.statement :
      alltrue([for action in it.actions : !strcontains(action, "*")]) && !contains(it.resources, "*")
    ])
    error_message = "no action and no resource may be a wildcard"
  }

  assert {
    condition     = one([for it in data.aws_iam_policy_document.secrets.statement : it.resources if it.sid == "ReadSecrets"]) == toset(var.secret_arns)
    error_message = "the named secrets may be read, and no others"
  }

  assert {
    condition     = aws_eks_pod_identity_association.controller["secrets"].namespace == "external-secrets" && aws_eks_pod_identity_association.controller["secrets"].service_account == "external-secrets"
    error_message = "the External Secrets Operator must be the one that reads them"
  }
}

run "controllers_have_their_roles" {
  command = plan

  assert {
    condition = {
      for name, association in aws_eks_pod_identity_association.controller : name => "${association.namespace}/${association.service_account}"
      } == {
      secrets = "external-secrets/external-secrets", load-balancer = "kube-system/aws-load-balancer-controller", autoscaler = "kube-system/cluster-autoscaler"
    }
    error_message = "each controller must have its role through Pod Identity"
  }

  assert {
    condition = (
      output.controller_values.aws-load-balancer-controller.serviceAccount.name == "aws-load-balancer-controller" && output.controller_values.external-secrets.serviceAccount.name == "external-secrets"
      && output.controller_values.cluster-autoscaler.rbac.serviceAccount.name == "cluster-autoscaler" && output.controller_values.aws-load-balancer-controller.vpcId == "vpc-0a1b2c3d4e5f60001"
      && !output.controller_values.aws-load-balancer-controller.enableShield && !output.controller_values.aws-load-balancer-controller.enableWaf
    )
    error_message = "the charts of the controllers must use the associated accounts, and ask neither IMDS nor Shield"
  }

  # Reading is of every resource; writing is of the cluster's own.
  assert {
    condition = alltrue([
      for statement in concat(data.aws_iam_policy_document.load_balancer.statement, data.aws_iam_policy_document.autoscaler.statement) :
      alltrue([for action in statement.actions : !strcontains(action, "*")]) && (!contains(statement.resources, "*") || alltrue([for action in statement.actions : can(regex(":(Describe|Get|SetWebAcl)", action))]))
    ])
    error_message = "no action may be a wildcard, and only reading may be of every resource"
  }

  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.load_balancer.statement :
      anytrue([for condition in statement.condition : endswith(condition.variable, "elbv2.k8s.aws/cluster") && contains(condition.values, var.name)])
      if contains(["NewBalancer", "NewGroup", "OwnBalancer", "OwnGroups", "TagsOfNewGroup"], statement.sid)
    ])
    error_message = "the controller of the load balancer must change only what has the tag of its cluster"
  }

  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.autoscaler.statement :
      anytrue([for condition in statement.condition : condition.variable == "aws:ResourceTag/k8s.io/cluster-autoscaler/${var.name}"])
      if contains(statement.actions, "autoscaling:SetDesiredCapacity")
    ])
    error_message = "the autoscaler must change only the nodes of its cluster"
  }

  assert {
    condition     = toset(keys(aws_eks_addon.after_nodes)) == toset(["coredns", "metrics-server"])
    error_message = "the chart's autoscaler needs metrics-server"
  }

  assert {
    condition     = output.cluster_secret_store.metadata.name == output.chart_values.externalSecrets.store.name && output.cluster_secret_store.kind == output.chart_values.externalSecrets.store.kind
    error_message = "the store must be the one that the chart names"
  }
}

run "ways_in" {
  command = plan

  variables {
    private_access_cidrs = ["10.9.0.0/24"]
    viewer_role_arns     = ["arn:aws:iam::123456789012:role/on-call"]
  }

  assert {
    condition = (
      aws_vpc_security_group_ingress_rule.kubernetes_api["10.9.0.0/24"].from_port == 443 && aws_vpc_security_group_ingress_rule.kubernetes_api["10.9.0.0/24"].to_port == 443
      && aws_vpc_security_group_ingress_rule.kubernetes_api["10.9.0.0/24"].security_group_id == "sg-0123456789abcdef1" && !aws_eks_cluster.this.vpc_config[0].endpoint_public_access
    )
    error_message = "the private networks must reach the Kubernetes API, and no public one"
  }

  assert {
    condition     = endswith(aws_eks_access_policy_association.this["arn:aws:iam::123456789012:role/on-call"].policy_arn, "/AmazonEKSViewPolicy") && endswith(aws_eks_access_policy_association.this["arn:aws:iam::123456789012:role/admin"].policy_arn, "/AmazonEKSClusterAdminPolicy")
    error_message = "viewers must only read, and administrators administer"
  }

  # A session of Systems Manager through a node reaches the cluster without any network of the operator's.
  assert {
    condition     = contains(local.roles.node.policies, "AmazonSSMManagedInstanceCore")
    error_message = "a node must be reachable by Systems Manager"
  }
}

run "extended_support" {
  command = plan

  variables {
    kubernetes_version = "1.34"
    support_type       = "EXTENDED"
  }

  assert {
    condition     = aws_eks_cluster.this.upgrade_policy[0].support_type == "EXTENDED" && aws_eks_cluster.this.version == "1.34"
    error_message = "extended support must be possible"
  }
}

run "near_end_of_support_then_warning" {
  command = plan

  variables {
    kubernetes_version = "1.35"
  }
  expect_failures = [check.kubernetes_support]
}

run "replicated_secrets_are_decrypted_with_their_key" {
  command = plan

  variables {
    secret_kms_key_arns = ["arn:aws:kms:eu-west-1:123456789012:key/22222222-2222-2222-2222-222222222222"]
  }

  assert {
    condition     = one([for it in data.aws_iam_policy_document.secrets.statement : it.resources if it.sid == "DecryptSecrets"]) == toset(concat([var.kms_key_arn], var.secret_kms_key_arns))
    error_message = "the copy of a secret has another key, which must be usable too"
  }
}

run "chart_values_contain_database_and_cache" {
  command = plan

  variables {
    redis = { host = "cache.example", port = 6379, auth_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/cache-AbCdEf", cidrs = ["10.1.128.0/20"] }
  }

  assert {
    condition     = output.chart_values.database.password.remoteRef == var.database.password_secret_arn && output.chart_values.networkPolicy.databaseCidrs == tolist(["10.1.128.0/20"])
    error_message = "the chart must find the database"
  }

  assert {
    condition = (
      output.chart_values.ingress.enabled && output.chart_values.ingress.certificateArn == var.ingress.certificate_arn && join(",", output.chart_values.ingress.hosts[*].host) == join(",", var.ingress.hosts)
      && join(",", output.chart_values.networkPolicy.clients[*].ipBlock.cidr) == join(",", var.ingress.subnet_cidrs) && output.chart_values.extraEnv.TRUSTED_PROXIES == "10.1.0.0/20,10.1.16.0/20"
    )
    error_message = "the chart must publish the API's names, and admit and trust the load balancer's subnets"
  }

  assert {
    condition     = output.chart_values.redis.host == "cache.example" && output.chart_values.redis.password.remoteRef == var.redis.auth_secret_arn
    error_message = "the chart must find the cache"
  }

  assert {
    condition     = output.chart_values.readinessProbe.httpGet.path == "/readyz" && output.chart_values.migration.enabled
    error_message = "pods must be ready when there is a primary, whose schema a release brings up to date"
  }
}

run "standby_region" {
  command = plan

  variables {
    health_check_path = "/livez"
    migration         = { user = "api_owner", password_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/api-owner-AbCdEf", enabled = false }
  }

  assert {
    condition     = output.chart_values.readinessProbe.httpGet.path == "/livez" && !output.chart_values.migration.enabled
    error_message = "without a primary within reach, pods must become ready and nothing be migrated"
  }
}
