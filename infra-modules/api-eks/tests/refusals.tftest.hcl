# Invalid inputs are rejected at plan, each with the remedy.

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

run "a_name_with_an_underscore" {
  command = plan
  variables {
    name = "causeway_test"
  }
  expect_failures = [var.name]
}

run "a_cluster_in_one_zone" {
  command = plan
  variables {
    private_subnet_ids = ["subnet-1a"]
  }
  expect_failures = [var.private_subnet_ids]
}

run "nodes_without_a_way_out" {
  command = plan
  variables {
    nat = "none"
  }
  expect_failures = [var.nat]
}

run "a_patch_version" {
  command = plan
  variables {
    kubernetes_version = "1.33.1"
  }
  expect_failures = [var.kubernetes_version]
}

run "a_version_that_eks_does_not_offer" {
  command = plan
  variables {
    kubernetes_version = "1.24"
  }
  expect_failures = [aws_eks_cluster.this]
}

run "a_version_past_its_standard_support" {
  command = plan
  variables {
    kubernetes_version = "1.34"
  }
  expect_failures = [aws_eks_cluster.this, check.kubernetes_support]
}

run "unknown_support" {
  command = plan
  variables {
    support_type = "standard"
  }
  expect_failures = [var.support_type]
}

run "nodes_of_another_architecture" {
  command = plan
  variables {
    node = { instance_types = ["m7i.large"], min = 2, desired = 3, max = 6, ami_type = "AL2023_ARM_64_STANDARD" }
  }
  expect_failures = [aws_eks_node_group.this]
}

run "nodes_without_places_for_the_pods" {
  command = plan
  variables {
    node = { instance_types = ["t3.small"], min = 1, desired = 1, max = 2 }
  }
  override_data {
    target = data.aws_ec2_instance_type.node
    values = { supported_architectures = ["x86_64"], maximum_network_interfaces = 3, maximum_ipv4_addresses_per_interface = 4 }
  }
  expect_failures = [aws_eks_node_group.this]
}

run "a_viewer_who_is_a_user" {
  command = plan
  variables {
    viewer_role_arns = ["arn:aws:iam::123456789012:user/on-call"]
  }
  expect_failures = [var.viewer_role_arns]
}

run "a_viewer_who_administers" {
  command = plan
  variables {
    viewer_role_arns = ["arn:aws:iam::123456789012:role/admin"]
  }
  expect_failures = [var.viewer_role_arns]
}

run "private_access_from_a_public_network" {
  command = plan
  variables {
    private_access_cidrs = ["203.0.113.0/24"]
  }
  expect_failures = [var.private_access_cidrs]
}

run "no_ca_certificate" {
  command = plan
  variables {
    database = { hosts = ["a"], cidrs = ["10.1.128.0/20"], name = "causeway", user = "api_service", password_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:a", ca_certificate_pem = null }
  }
  expect_failures = [var.database]
}

run "an_ingress_without_hosts" {
  command = plan
  variables {
    ingress = { hosts = [], certificate_arn = "arn:aws:acm:eu-west-1:123456789012:certificate/a", subnet_cidrs = ["10.1.0.0/20"] }
  }
  expect_failures = [var.ingress]
}

run "an_unknown_scheme" {
  command = plan
  variables {
    ingress = { hosts = ["api.example.com"], certificate_arn = "arn:aws:acm:eu-west-1:123456789012:certificate/a", subnet_cidrs = ["10.1.0.0/20"], scheme = "public" }
  }
  expect_failures = [var.ingress]
}

run "no_type" {
  command = plan
  variables {
    node = { instance_types = [], min = 2, desired = 3, max = 6 }
  }
  expect_failures = [var.node]
}

run "more_nodes_at_least_than_at_most" {
  command = plan
  variables {
    node = { instance_types = ["m7i.large"], min = 6, desired = 6, max = 2 }
  }
  expect_failures = [var.node]
}

run "a_disk_that_is_too_small" {
  command = plan
  variables {
    node = { instance_types = ["m7i.large"], min = 2, desired = 3, max = 6, disk_gib = 8 }
  }
  expect_failures = [var.node]
}

run "no_administrator_role" {
  command = plan
  variables {
    admin_role_arns = []
  }
  expect_failures = [var.admin_role_arns]
}

run "a_user_who_administers" {
  command = plan
  variables {
    admin_role_arns = ["arn:aws:iam::123456789012:user/admin"]
  }
  expect_failures = [var.admin_role_arns]
}

run "public_access_from_the_internet" {
  command = plan
  variables {
    public_access_cidrs = ["0.0.0.0/0"]
  }
  expect_failures = [var.public_access_cidrs]
}

run "public_access_from_half_of_the_internet" {
  command = plan
  variables {
    public_access_cidrs = ["128.0.0.0/1"]
  }
  expect_failures = [var.public_access_cidrs]
}

run "no_secret" {
  command = plan
  variables {
    secret_arns = []
  }
  expect_failures = [var.secret_arns]
}

run "every_secret" {
  command = plan
  variables {
    secret_arns = ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:*"]
  }
  expect_failures = [var.secret_arns]
}

run "no_host" {
  command = plan
  variables {
    database = { hosts = [], cidrs = ["10.1.128.0/20"], name = "causeway", user = "api_service", password_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:a", ca_certificate_pem = "-----BEGIN CERTIFICATE-----\n" }
  }
  expect_failures = [var.database]
}

run "a_service_that_owns_the_schema" {
  command = plan
  variables {
    migration = { user = "api_service", password_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:b" }
  }
  expect_failures = [var.migration]
}

run "a_path_without_readiness" {
  command = plan
  variables {
    health_check_path = "/healthz"
  }
  expect_failures = [var.health_check_path]
}

run "unsupported_retention" {
  command = plan
  variables {
    log_retention_days = 31
  }
  expect_failures = [var.log_retention_days]
}
