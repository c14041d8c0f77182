terraform {
  required_version = ">= 1.11"

  required_providers {
    # Earlier ones read the value of a write-only secret to refresh it, which no role of a pipeline may.
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
