# One account with two environments. An organisation with one account for each names one here.
project      = "causeway"
owner        = "platform-team"
repository   = "example/causeway"
environments = ["staging", "production"]
