# `smallest` with the API on EKS, and a cache: two nodes, reached by a session of Systems Manager.
environment = "staging"
owner       = "platform-team"

cidrs   = { primary = "10.1.0.0/16", dr = "10.2.0.0/16" }
network = { zones = ["eu-west-1a", "eu-west-1b", "eu-west-1c"], nat = "two", endpoints = "none", allowed_domains = ["debian.org", "postgresql.org"], flow_log_retention_days = 7 }

database = {
  nodes = {
    eu-west-1a-1 = { zone = "eu-west-1a" }
    eu-west-1b-1 = { zone = "eu-west-1b" }
  }
  instance_type = "t4g.small"
  data_volume   = { size_gib = 20 }
  wal_volume    = { size_gib = 10 }
  # Replace it with the certificate that signs your nodes': nobody has this one's private key.
  ca_certificate_pem = <<-EOT
    -----BEGIN CERTIFICATE-----
    MIIBmDCCAT2gAwIBAgIUTQcfYimM7Ld6d7UgL7Hh/h0frYQwCgYIKoZIzj0EAwIw
    ITEfMB0GA1UEAwwWRXhhbXBsZSBDQSwgcmVwbGFjZSBpdDAeFw0yNjExMzAxMDEw
    NTlaFw0zNjExMjcxMDEwNTlaMCExHzAdBgNVBAMMFkV4YW1wbGUgQ0EsIHJlcGxh
    Y2UgaXQwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQ0ik6eWDCP+0LCsf2zmgLc
    0ow3RoJOlivdKm3uGTN39QuBwUKDnSUpig+JTuUbcW9aAn+r6JMYtFLACrc7igaY
    o1MwUTAdBgNVHQ4EFgQUYpFYI192EpHYTacuT3vZk6lZyOkwHwYDVR0jBBgwFoAU
    YpFYI192EpHYTacuT3vZk6lZyOkwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQD
    AgNJADBGAiEAmh4r+9YcqvQxaIWzNPI4xWjMuQnPON8C7zrRF4SaEo8CIQDSCfN/
    YY9IcfvO24X+wcCTW8zYl78Gxu2lcpPdLvsMCA==
    -----END CERTIFICATE-----
  EOT
}

backup = { retention_days = 7, noncurrent_days = 3, object_lock = { days = 3 }, size_alarm_gib = 60 }
dns    = { public_zone = "staging.example.com", private_zone = "staging.causeway.internal" }
alarms = { emails = ["platform-team@example.com"], monthly_usd = 1000 }
cache  = { node_type = "cache.t4g.small", replicas = 0 }

api_platform = "eks"
eks = {
  kubernetes_version  = "1.36"
  node                = { instance_types = ["t3.medium"], min = 2, desired = 2, max = 4 }
  admin_role_arns     = ["arn:aws:iam::123456789012:role/platform"]
  viewer_role_arns    = ["arn:aws:iam::123456789012:role/on-call"]
  deletion_protection = false
  # Once the chart has created its Ingress: docs/guides/api-on-eks.md.
  # load_balancer = { dns_name = "k8s-causeway-….eu-west-1.elb.amazonaws.com", zone_id = "…" }
}
log_retention_days = 7

# The names of deleted secrets are free at once, so that it can be created again.
secrets_recovery_days = 0

permissions_boundary = "arn:aws:iam::123456789012:policy/boundary/causeway-staging-workload"
