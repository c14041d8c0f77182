# Survives the loss of a zone without an interruption: endpoints in each, a cache with a replica, a WAF. Nothing needs NAT.
environment = "production"
owner       = "platform-team"

cidrs   = { primary = "10.1.0.0/16", dr = "10.2.0.0/16" }
network = { zones = ["eu-west-1a", "eu-west-1b", "eu-west-1c"], nat = "none", flow_log_retention_days = 90 }

database = {
  nodes = {
    eu-west-1a-1 = { zone = "eu-west-1a" }
    eu-west-1b-1 = { zone = "eu-west-1b" }
  }
  instance_type = "m7g.xlarge"
  # Together 6000 IOPS, which m7g.xlarge sustains. More needs a larger type: m7g.2xlarge has 12000.
  data_volume = { size_gib = 500 }
  wal_volume  = { size_gib = 50 }
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
monitoring = { instance_type = "t4g.small" }

backup = {
  retention_days = 35
  size_alarm_gib = 6500
  # Nothing deletes expired backups yet: an operator does, with MFA.
  expirer = { principal_arns = ["arn:aws:iam::123456789012:user/backup-operator"] }
}
dns    = { public_zone = "example.com" }
alarms = { emails = ["oncall@example.com"], monthly_usd = 2800 }

api = {
  image  = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/causeway/api:0.1.0"
  cpu    = 1024
  memory = 2048
  tasks  = { min = 3, max = 12, desired = 3 }
}
cache              = { node_type = "cache.m7g.large" }
log_retention_days = 90

permissions_boundary = "arn:aws:iam::123456789012:policy/boundary/causeway-production-workload"
