# Sized like the primary region once active; until then two standby tasks, and no cache.
environment = "production"
owner       = "platform-team"

cidrs   = { primary = "10.1.0.0/16", dr = "10.2.0.0/16" }
network = { zones = ["eu-central-1a", "eu-central-1b", "eu-central-1c"], flow_log_retention_days = 90 }

database = {
  nodes = {
    eu-central-1a-1 = { zone = "eu-central-1a" }
  }
  instance_type = "m7g.xlarge"
  data_volume   = { size_gib = 500, iops = 12000, throughput = 500 }
  wal_volume    = { size_gib = 100, throughput = 250 }
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
monitoring_cidrs = ["10.1.0.0/16", "10.2.0.0/16"]

backup        = { retention_days = 35 }
restore_drill = { instance_type = "m7g.large", scratch_volume = { size_gib = 500, throughput = 250 } }
alarms        = { emails = ["oncall@example.com"] }

api = {
  image        = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/causeway/api:0.1.0"
  cpu          = 1024
  memory       = 2048
  tasks        = { min = 2, max = 4, desired = 2 }
  active_tasks = { min = 3, max = 12, desired = 3 }
}
log_retention_days = 90

permissions_boundary = "arn:aws:iam::123456789012:policy/boundary/causeway-workload"
