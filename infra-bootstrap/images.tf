# The image of the API: pushed to the primary region, copied to the other by the registry. Both
# repositories are made here, since one that replication makes has neither key nor rules.

locals {
  image_regions = toset([var.regions.primary, var.regions.dr])
}

resource "aws_kms_key" "images" {
  for_each = local.image_regions

  region                  = each.key
  description             = "Images of ${var.project}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy                  = data.aws_iam_policy_document.account_key.json
}

resource "aws_kms_alias" "images" {
  for_each = local.image_regions

  region        = each.key
  name          = "alias/${var.project}-images"
  target_key_id = aws_kms_key.images[each.key].key_id
}

resource "aws_ecr_repository" "api" {
  for_each = local.image_regions

  region               = each.key
  name                 = "${var.project}/api"
  image_tag_mutability = "IMMUTABLE"

  image_scanning_configuration {
    scan_on_push = true
  }

  encryption_configuration {
    encryption_type = "KMS"
    kms_key         = aws_kms_key.images[each.key].arn
  }
}

# A release is several images for ECR: its index, which has the tag, what runs, and what is attested of it.
# Counted are tags, and what an index names stays for as long as the index does.
resource "aws_ecr_lifecycle_policy" "api" {
  for_each = local.image_regions

  region     = each.key
  repository = aws_ecr_repository.api[each.key].name
  policy = jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "What no tag names any more goes after a week"
        selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 7 }
        action       = { type = "expire" }
      },
      {
        rulePriority = 2
        description  = "The last ${var.images_kept} releases stay"
        selection    = { tagStatus = "tagged", tagPatternList = ["*"], countType = "imageCountMoreThan", countNumber = var.images_kept }
        action       = { type = "expire" }
      },
    ]
  })
}

resource "aws_ecr_replication_configuration" "api" {
  region = var.regions.primary

  replication_configuration {
    rule {
      destination {
        region      = var.regions.dr
        registry_id = local.account
      }

      repository_filter {
        filter      = "${var.project}/"
        filter_type = "PREFIX_MATCH"
      }
    }
  }

  depends_on = [aws_ecr_repository.api]
}

# What a build reuses of the one before. Its one tag moves, so it is not among the images that run.
resource "aws_ecr_repository" "cache" {
  # checkov:skip=CKV_AWS_51: the cache has one tag, which moves; nothing is run from it
  region               = var.regions.primary
  name                 = "${var.project}-cache"
  image_tag_mutability = "MUTABLE"

  image_scanning_configuration {
    scan_on_push = true
  }

  encryption_configuration {
    encryption_type = "KMS"
    kms_key         = aws_kms_key.images[var.regions.primary].arn
  }
}

resource "aws_ecr_lifecycle_policy" "cache" {
  region     = var.regions.primary
  repository = aws_ecr_repository.cache.name
  policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "A layer that was not built again goes after five days"
      selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 5 }
      action       = { type = "expire" }
    }]
  })
}
