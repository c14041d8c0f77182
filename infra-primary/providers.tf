provider "aws" {
  region = var.regions.primary

  default_tags {
    tags = merge(local.tags, { region_role = "primary" })
  }
}

provider "aws" {
  alias  = "dr"
  region = var.regions.dr

  default_tags {
    tags = merge(local.tags, { region_role = "dr" })
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
  region = var.regions.primary
  tags   = { project = var.project, environment = var.environment, owner = var.owner }
}
