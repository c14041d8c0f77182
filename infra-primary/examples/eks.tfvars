# `smallest` with the API on EKS, and a cache: two nodes, reached by a session of Systems Manager.
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

  # An example; its private key was deleted.
  ca_certificate_pem = <<-EOT
    -----BEGIN CERTIFICATE-----
    MIIBjDCCATOgAwIBAgIUYmC/UYTm0AmDB4yFNP4x4pcijbowCgYIKoZIzj0EAwIw
    HDEaMBgGA1UEAwwRRXhhbXBsZSBhdXRob3JpdHkwHhcNMjYxMTIxMTY1MDE2WhcN
    MzYxMTE4MTY1MDE2WjAcMRowGAYDVQQDDBFFeGFtcGxlIGF1dGhvcml0eTBZMBMG
    ByqGSM49AgEGCCqGSM49AwEHA0IABEEKWencd0bcCNznCJrPTmGt3GLgogxAAdHM
    IYJisqiJ2X7qg2fMuN2gTO08wdn7zDKIA/kbi8aQedYkG0fS2U+jUzBRMB0GA1Ud
    DgQWBBTBD7gSX3tDFSomA5qPQCN4ygLBtTAfBgNVHSMEGDAWgBTBD7gSX3tDFSom
    A5qPQCN4ygLBtTAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0cAMEQCIBUh
    CvSdTwSJFkh/aLG1xgWlW/Kmw67qa65O6J25NlRZAiBIDsSNEphHLIlkFG0slKNC
    qEm3LVcmdEhZ613IN4u4+g==
    -----END CERTIFICATE-----
  EOT
}

backup = { retention_days = 7, noncurrent_days = 3, object_lock = { days = 3 } }
dns    = { public_zone = "staging.example.com" }
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

permissions_boundary = "arn:aws:iam::123456789012:policy/boundary/causeway-workload"
