terraform {
  required_version = ">= 1.11"

  required_providers {
    # Earlier versions store the token in the state: they have no `auth_token_wo`.
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.69"
    }
    random = {
      source  = "hashicorp/random"
      version = "~> 3.7"
    }
  }
}
