terraform {
  required_version = ">= 1.11"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }

  # infra-bootstrap outputs the rest: -backend-config with bucket, key, region and kms_key_id.
  backend "s3" {
    use_lockfile = true
    encrypt      = true
  }
}
