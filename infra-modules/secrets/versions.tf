terraform {
  required_version = ">= 1.11"

  required_providers {
    # Earlier versions read the value of a write-only secret to refresh it, which no pipeline role may.
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
