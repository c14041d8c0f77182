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
