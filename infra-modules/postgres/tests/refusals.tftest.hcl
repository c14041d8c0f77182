# Invalid inputs are rejected at plan, each with the remedy.

mock_provider "aws" {
  source          = "../private-host/tests/mocks"
  override_during = plan
}

variables {
  name       = "causeway-test"
  cluster    = "main"
  vpc_id     = "vpc-0123456789abcdef0"
  aws_access = { endpoint_security_group_id = "sg-0e", s3_prefix_list_id = "pl-0a" }
  subnet_ids = {
    eu-west-1a = "subnet-0a"
    eu-west-1b = "subnet-0b"
  }
  nodes = {
    eu-west-1a-1 = { zone = "eu-west-1a" }
    eu-west-1b-1 = { zone = "eu-west-1b" }
  }
  instance_type     = "m7g.large"
  data_volume       = { size_gib = 200 }
  wal_volume        = { size_gib = 50 }
  kms_key_arn       = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  private_zone_id   = "Z0PRIVATE"
  private_zone_name = "causeway.internal"
  lease             = { bucket_arn = "arn:aws:s3:::causeway-test-lease" }
  backup = {
    bucket_arns  = ["arn:aws:s3:::causeway-test-backup"]
    kms_key_arns = ["arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"]
  }
}

run "a_name_with_capitals" {
  command = plan
  variables {
    name = "Causeway"
  }
  expect_failures = [var.name]
}

run "a_cluster_with_a_slash" {
  command = plan
  variables {
    cluster = "main/other"
  }
  expect_failures = [var.cluster]
}

run "no_node" {
  command = plan
  variables {
    nodes              = {}
    automatic_failover = false
  }
  expect_failures = [var.nodes]
}

run "a_node_that_is_no_label" {
  command = plan
  variables {
    nodes = {
      "pg_1" = { zone = "eu-west-1a" }
      "pg-2" = { zone = "eu-west-1b" }
    }
  }
  expect_failures = [var.nodes]
}

run "a_node_whose_role_would_have_too_long_a_name" {
  command = plan
  variables {
    nodes = {
      eu-west-1a-1                                           = { zone = "eu-west-1a" }
      eu-west-1b-a-name-that-is-a-label-and-too-long-for-iam = { zone = "eu-west-1b" }
    }
  }
  expect_failures = [var.nodes]
}

run "a_zone_without_a_subnet" {
  command = plan
  variables {
    nodes = {
      eu-west-1a-1 = { zone = "eu-west-1a" }
      eu-west-1d-1 = { zone = "eu-west-1d" }
    }
    automatic_failover = false
  }
  expect_failures = [var.nodes]
}

run "an_address_that_is_none" {
  command = plan
  variables {
    nodes = {
      eu-west-1a-1 = { zone = "eu-west-1a", private_ip = "10.1.128.300" }
      eu-west-1b-1 = { zone = "eu-west-1b" }
    }
  }
  expect_failures = [var.nodes]
}

run "an_address_twice" {
  command = plan
  variables {
    nodes = {
      eu-west-1a-1 = { zone = "eu-west-1a", private_ip = "10.1.128.11" }
      eu-west-1b-1 = { zone = "eu-west-1b", private_ip = "10.1.128.11" }
    }
  }
  expect_failures = [var.nodes]
}

run "addresses_outside_of_the_subnet" {
  command = plan
  variables {
    subnet_cidrs = { eu-west-1a = "10.1.128.0/20", eu-west-1b = "10.1.144.0/20" }
    nodes = {
      eu-west-1a-1 = { zone = "eu-west-1a", private_ip = "10.1.144.11" }
      eu-west-1b-1 = { zone = "eu-west-1b", private_ip = "10.1.144.3" } # AWS's
    }
  }
  expect_failures = [aws_instance.node["eu-west-1a-1"], aws_instance.node["eu-west-1b-1"]]
}

run "eight_nodes_in_a_zone" {
  command = plan
  variables {
    nodes = merge({ eu-west-1b-1 = { zone = "eu-west-1b" } }, { for number in range(8) : "eu-west-1a-${number}" => { zone = "eu-west-1a" } })
  }
  expect_failures = [var.nodes]
}

run "image_of_another_architecture" {
  command = plan
  variables {
    ami_id = "ami-0123456789abcdef0"
  }
  override_data {
    target = data.aws_ami.node
    values = { architecture = "x86_64" }
  }
  expect_failures = [aws_instance.node]
}

run "instance_type_of_another_hypervisor" {
  command = plan
  variables {
    instance_type = "m4.large"
  }
  override_data {
    target = data.aws_ec2_instance_type.node
    values = { supported_architectures = ["x86_64"], hypervisor = "xen", bare_metal = false, ebs_performance_baseline_iops = 3600, ebs_performance_baseline_throughput = 56.25 }
  }
  expect_failures = [aws_instance.node]
}

run "operations_beyond_the_instance_type" {
  command = plan
  variables {
    data_volume = { size_gib = 200, iops = 3100 }
  }
  expect_failures = [check.volumes_fit_the_instance_type]
}

run "throughput_beyond_the_instance_type" {
  command = plan
  variables {
    wal_volume = { size_gib = 50, throughput = 130 }
  }
  expect_failures = [check.volumes_fit_the_instance_type]
}

run "failover_without_a_standby" {
  command = plan
  variables {
    nodes = { eu-west-1a-1 = { zone = "eu-west-1a" } }
  }
  expect_failures = [var.automatic_failover]
}

run "failover_within_one_zone" {
  command = plan
  variables {
    nodes = {
      eu-west-1a-1 = { zone = "eu-west-1a" }
      eu-west-1a-2 = { zone = "eu-west-1a" }
    }
  }
  expect_failures = [var.automatic_failover]
}

run "an_image_that_is_none" {
  command = plan
  variables {
    ami_id = "debian-12"
  }
  expect_failures = [var.ami_id]
}

run "a_small_data_volume" {
  command = plan
  variables {
    data_volume = { size_gib = 8 }
  }
  expect_failures = [var.data_volume]
}

run "too_many_operations" {
  command = plan
  variables {
    data_volume = { size_gib = 20, iops = 12000 }
  }
  expect_failures = [var.data_volume]
}

run "too_much_throughput" {
  command = plan
  variables {
    data_volume = { size_gib = 200, iops = 3000, throughput = 1000 }
  }
  expect_failures = [var.data_volume]
}

run "a_small_wal_volume" {
  command = plan
  variables {
    wal_volume = { size_gib = 1 }
  }
  expect_failures = [var.wal_volume]
}

run "too_few_operations_for_the_log" {
  command = plan
  variables {
    wal_volume = { size_gib = 50, iops = 100 }
  }
  expect_failures = [var.wal_volume]
}

run "too_little_throughput_for_the_log" {
  command = plan
  variables {
    wal_volume = { size_gib = 50, throughput = 50 }
  }
  expect_failures = [var.wal_volume]
}

run "everyone_as_a_peer" {
  command = plan
  variables {
    peer_cidrs = ["0.0.0.0/0"]
  }
  expect_failures = [var.peer_cidrs]
}

run "monitoring_from_the_internet" {
  command = plan
  variables {
    monitoring_cidrs = ["203.0.113.0/24"]
  }
  expect_failures = [var.monitoring_cidrs]
}

run "no_backups" {
  command = plan
  variables {
    backup = { bucket_arns = [], kms_key_arns = [] }
  }
  expect_failures = [var.backup]
}

run "pooler_clients_without_a_pooler" {
  command = plan
  variables {
    pooler_clients = { reports = { security_group_id = "sg-0f" } }
  }
  expect_failures = [var.pooler_clients]
}

run "pooler_client_without_an_address" {
  command = plan
  variables {
    pooler         = true
    pooler_clients = { reports = {} }
  }
  expect_failures = [var.pooler_clients]
}

run "pooler_client_that_is_no_security_group" {
  command = plan
  variables {
    pooler         = true
    pooler_clients = { reports = { security_group_id = "reports" } }
  }
  expect_failures = [var.pooler_clients]
}

run "pooler_client_of_a_large_network" {
  command = plan
  variables {
    pooler         = true
    pooler_clients = { reports = { cidr = "10.9.0.0/16" } }
  }
  expect_failures = [var.pooler_clients]
}
