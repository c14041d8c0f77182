# The minimum for a promotion: one node, one NAT gateway, endpoints in one zone, one standby task.
environment = "staging"
owner       = "platform-team"

cidrs   = { primary = "10.1.0.0/16", dr = "10.2.0.0/16" }
network = { zones = ["eu-central-1a", "eu-central-1b", "eu-central-1c"], nat = "one", endpoints = "one", flow_log_retention_days = 7 }

database = {
  nodes = {
    eu-central-1a-1 = { zone = "eu-central-1a" }
  }
  instance_type = "t4g.medium"
  data_volume   = { size_gib = 20 }
  wal_volume    = { size_gib = 10 }
}

backup        = { retention_days = 7, noncurrent_days = 3, object_lock = { days = 3 } }
restore_drill = null
alarms        = { emails = ["platform-team@example.com"] }

api = {
  image               = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/causeway/api:0.1.0"
  cpu                 = 256
  memory              = 512
  tasks               = { min = 1, max = 2, desired = 1 }
  active_tasks        = { min = 2, max = 4, desired = 2 }
  waf                 = false
  deletion_protection = false
}
log_retention_days = 7

permissions_boundary = "arn:aws:iam::123456789012:policy/boundary/causeway-workload"
