# One account with two environments. With one account per environment, name one here.
project      = "causeway"
owner        = "platform-team"
repository   = "example/causeway"
environments = ["staging", "production"]
