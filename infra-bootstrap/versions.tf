terraform {
  required_version = ">= 1.11"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

provider "aws" {
  region = var.regions.state

  default_tags {
    tags = {
      project     = var.project
      environment = "shared"
      region_role = "state"
      owner       = var.owner
    }
  }
}
