# Sized like the primary region once active; until then two standby tasks, and no cache.
environment = "production"
owner       = "platform-team"

network = { zones = ["eu-central-1a", "eu-central-1b", "eu-central-1c"], nat = "none", flow_log_retention_days = 90 }

database = {
  nodes = {
    eu-central-1a-1 = { zone = "eu-central-1a" }
  }
}
monitoring = { instance_type = "t4g.small" }

restore_drill = { instance_type = "m7g.large", scratch_volume = { size_gib = 500 } }
alarms        = { emails = ["oncall@example.com"] }

api = {
  cpu          = 1024
  memory       = 2048
  tasks        = { min = 2, max = 4, desired = 2 }
  active_tasks = { min = 3, max = 12, desired = 3 }
}
log_retention_days = 90
