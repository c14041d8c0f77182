terraform {
  required_version = ">= 1.11"

  required_providers {
    # 6.4 is the first with blue/green deployments of ECS.
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.4"
    }
  }
}
