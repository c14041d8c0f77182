# `smallest` with the API on EKS: two nodes, whose pods are live and reach no primary until `active`.
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

api_platform = "eks"
eks = {
  kubernetes_version  = "1.36"
  node                = { instance_types = ["t3.medium"], min = 2, desired = 2, max = 4 }
  admin_role_arns     = ["arn:aws:iam::123456789012:role/platform"]
  viewer_role_arns    = ["arn:aws:iam::123456789012:role/on-call"]
  deletion_protection = false
  # Once the chart has created its Ingress: docs/guides/api-on-eks.md.
  # load_balancer = { dns_name = "k8s-causeway-….eu-central-1.elb.amazonaws.com", zone_id = "…" }
}
log_retention_days = 7
