# Invalid inputs are rejected at plan, each with the remedy.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name               = "causeway-test"
  private_subnet_ids = ["subnet-1a", "subnet-1b"]
  kubernetes_version = "1.33"
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

run "a_patch_version" {
  command = plan
  variables {
    kubernetes_version = "1.33.1"
  }
  expect_failures = [var.kubernetes_version]
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
    database = { hosts = [], cidrs = ["10.1.128.0/20"], name = "causeway", user = "api_service", password_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:a" }
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
