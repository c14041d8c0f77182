# The minimum with automatic failover: one NAT gateway, endpoints in one zone, no cache, no WAF.
environment = "staging"
owner       = "platform-team"

cidrs   = { primary = "10.1.0.0/16", dr = "10.2.0.0/16" }
network = { zones = ["eu-west-1a", "eu-west-1b", "eu-west-1c"], nat = "one", endpoints = "one", flow_log_retention_days = 7 }

database = {
  nodes = {
    eu-west-1a-1 = { zone = "eu-west-1a" }
    eu-west-1b-1 = { zone = "eu-west-1b" }
  }
  instance_type = "t4g.medium"
  data_volume   = { size_gib = 20 }
  wal_volume    = { size_gib = 10 }
  # Replace it with the certificate of the CA that signs your servers': nobody has the key of this one.
  ca_certificate_pem = <<-EOT
    -----BEGIN CERTIFICATE-----
    MIIBnzCCAUWgAwIBAgIUO03ZYSZOhMB/UQfIbD5toAn165QwCgYIKoZIzj0EAwIw
    JTEjMCEGA1UEAwwaRXhhbXBsZSBDQSwgdG8gYmUgcmVwbGFjZWQwHhcNMjYxMTMw
    MTAwNzE2WhcNMzYxMTI3MTAwNzE2WjAlMSMwIQYDVQQDDBpFeGFtcGxlIENBLCB0
    byBiZSByZXBsYWNlZDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABCs5c2izjj+q
    dbtCu7aIkIA1MOgPLe8o5drnmoGvKf2fgHkVDlfjXF5Ny0UFltRroXkfTf6a0pzp
    jrwmkVEWfuKjUzBRMB0GA1UdDgQWBBRQSLalESWJae9NLIj6qE/CpyESwjAfBgNV
    HSMEGDAWgBRQSLalESWJae9NLIj6qE/CpyESwjAPBgNVHRMBAf8EBTADAQH/MAoG
    CCqGSM49BAMCA0gAMEUCIQDoaJKs9EoOYQ2pvo6+ZASsiTGc7Ui9l4/gFFQCDLoj
    IAIgV/MtWupadmwaSlpRwx8zI0ThRVIiYyFarvTSP04djCA=
    -----END CERTIFICATE-----
  EOT
}

backup = { retention_days = 7, noncurrent_days = 3, object_lock = { days = 3 } }
dns    = { public_zone = "staging.example.com" }
alarms = { emails = ["platform-team@example.com"], monthly_usd = 900 }

api = {
  image               = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/causeway/api:0.1.0"
  cpu                 = 256
  memory              = 512
  tasks               = { min = 2, max = 4, desired = 2 }
  waf                 = false
  deletion_protection = false
}
log_retention_days = 7

permissions_boundary = "arn:aws:iam::123456789012:policy/boundary/causeway-workload"
