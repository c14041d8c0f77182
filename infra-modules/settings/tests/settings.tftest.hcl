variables {
  cluster        = "main"
  primary_region = "eu-west-1"
  nodes = {
    eu-west-1a-1 = {
      region         = "eu-west-1", zone = "eu-west-1a", address = "eu-west-1a-1.causeway.internal", private_ip = "10.1.1.11"
      instance_id    = "i-0a1b2c3d4e5f60001"
      data_volume_id = "vol-0a1b2c3d4e5f60001", wal_volume_id = "vol-0a1b2c3d4e5f60002"
    }
    eu-central-1a-1 = {
      region         = "eu-central-1", zone = "eu-central-1a", address = "eu-central-1a-1.causeway.internal", private_ip = "10.2.1.11"
      instance_id    = "i-0a1b2c3d4e5f60003"
      data_volume_id = "vol-0a1b2c3d4e5f60005", wal_volume_id = "vol-0a1b2c3d4e5f60006"
    }
  }
  lease          = { bucket = "causeway-lease", region = "eu-north-1" }
  backup_buckets = [{ name = "causeway-backup-eu-west-1", region = "eu-west-1" }, { name = "causeway-backup-eu-central-1", region = "eu-central-1" }]
  dns = {
    zone_id = "Z0123456789ABCDEFGHIJ"
    writer  = "db-writer.causeway.internal"
    api = {
      name    = "api.example.com"
      zone_id = "Z0123456789PUBLIC000"
      targets = { eu-west-1 = "api-eu-west-1.example.com", eu-central-1 = "api-eu-central-1.example.com" }
    }
  }
}

# infra-tests parses these files as TOML, and compares their keys with docs/examples.
run "every_node_is_named" {
  command = plan

  assert {
    condition     = strcontains(output.files.failover-ctl.value, "agent = \"10.1.1.11:8009\"") && strcontains(output.files.failover-ctl.value, "agent = \"10.2.1.11:8009\"")
    error_message = "each node has its agent"
  }

  assert {
    condition     = yamldecode(output.files.inventory.value).all.children.postgres.children.eu_central_1.hosts["eu-central-1a-1"].ansible_host == "i-0a1b2c3d4e5f60003"
    error_message = "each node is in the group of its region"
  }

  assert {
    condition     = keys(yamldecode(output.files.inventory.value).all.children) == ["postgres"]
    error_message = "without a pooler there is no group of it"
  }

  assert {
    condition     = length(regexall("(?s)eu-west-1\".*eu-central-1\"", output.files.backup-agent.value)) == 1
    error_message = "the nearest bucket is first"
  }
}

run "pooler_then_every_node_is_in_its_group" {
  command = plan
  variables {
    pooler = true
  }

  assert {
    condition     = yamldecode(output.files.inventory.value).all.children.pooler.children == { postgres = {} }
    error_message = "the nodes must be in the group of Ansible's play"
  }
}

run "no_node_in_the_primary_region" {
  command = plan
  variables {
    primary_region = "eu-west-3"
  }
  expect_failures = [var.nodes]
}

run "lease_beside_a_node" {
  command = plan
  variables {
    lease = { bucket = "causeway-lease", region = "eu-west-1" }
  }
  expect_failures = [var.lease]
}

run "no_bucket" {
  command = plan
  variables {
    backup_buckets = []
  }
  expect_failures = [var.backup_buckets]
}

run "without_an_api" {
  command = plan
  variables {
    dns = { zone_id = "Z0123456789ABCDEFGHIJ", writer = "db-writer.causeway.internal" }
  }

  assert {
    condition     = !strcontains(output.files.failover-ctl.value, "[dns.api]")
    error_message = "no record of an API is moved"
  }
}

run "api_in_one_region_only" {
  command = plan
  variables {
    dns = {
      zone_id = "Z0123456789ABCDEFGHIJ"
      writer  = "db-writer.causeway.internal"
      api     = { name = "api.example.com", zone_id = "Z0123456789PUBLIC000", targets = { eu-west-1 = "api-eu-west-1.example.com" } }
    }
  }
  expect_failures = [var.dns]
}
