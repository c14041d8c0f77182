# The first apply keeps its state on the administrator's machine; README.md says how it moves here.
terraform {
  backend "s3" {
    key          = "bootstrap.tfstate"
    use_lockfile = true
    encrypt      = true
  }
}
