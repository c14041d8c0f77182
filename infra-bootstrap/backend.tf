# The first apply keeps its state on the administrator's machine; README.md describes the migration to S3.
terraform {
  backend "s3" {
    key          = "bootstrap.tfstate"
    use_lockfile = true
    encrypt      = true
  }
}
