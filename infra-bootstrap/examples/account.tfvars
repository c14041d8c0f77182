# One account with two environments. With one account per environment, name one here.
project = "causeway"
owner   = "platform-team"

# `example` is refused. For the ids: gh api repos/<owner>/<name> --jq '{owner: .owner.id, repository: .id}'
repository     = "example/causeway"
repository_ids = { owner = 1, repository = 1 }

environments = ["staging", "production"]
dns_zones = {
  staging    = ["staging.example.com", "staging.causeway.internal"]
  production = ["example.com", "causeway.internal"]
}
