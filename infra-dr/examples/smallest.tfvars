# The minimum for a promotion: one node, one NAT gateway instead of endpoints, one standby task.
environment = "staging"
owner       = "platform-team"

network = { zones = ["eu-central-1a", "eu-central-1b", "eu-central-1c"], nat = "one", endpoints = "none", allowed_domains = ["debian.org", "postgresql.org"], flow_log_retention_days = 7 }

database = {
  nodes = {
    eu-central-1a-1 = { zone = "eu-central-1a" }
  }
}

restore_drill = null
alarms        = { emails = ["platform-team@example.com"] }

api = {
  cpu                 = 256
  memory              = 512
  tasks               = { min = 1, max = 2, desired = 1 }
  active_tasks        = { min = 2, max = 4, desired = 2 }
  waf                 = false
  deletion_protection = false
}
log_retention_days = 7
