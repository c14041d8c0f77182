provider "aws" {
  region = var.regions.dr

  default_tags {
    tags = merge(local.tags, { region_role = "dr" })
  }
}

# Credentials are checked in the state's region, so that this root can be applied while the primary region is lost.
provider "aws" {
  alias      = "primary"
  region     = var.regions.primary
  sts_region = var.regions.lease

  default_tags {
    tags = merge(local.tags, { region_role = "primary" })
  }
}

provider "aws" {
  alias  = "lease"
  region = var.regions.lease

  default_tags {
    tags = merge(local.tags, { region_role = "lease" })
  }
}

locals {
  name   = "${var.project}-${var.environment}"
  region = var.regions.dr
  tags   = { project = var.project, environment = var.environment, owner = var.owner }
}
