# Repositories of the API's image: pushed to the primary region, replicated to the other by the registry. Both
# are created here, since replication would create one without key and rules.

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

# ECR stores a release as several images: its index, which has the tag, the platform images, and attestations.
# The rule counts tags; images in an index stay as long as the index.
resource "aws_ecr_lifecycle_policy" "api" {
  for_each = local.image_regions

  region     = each.key
  repository = aws_ecr_repository.api[each.key].name
  policy = jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "Untagged images expire after a week"
        selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 7 }
        action       = { type = "expire" }
      },
      {
        rulePriority = 2
        description  = "The last ${var.images_kept} releases are kept"
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

# Build cache. Its single tag moves, so it is separate from the images that run.
resource "aws_ecr_repository" "cache" {
  # checkov:skip=CKV_AWS_51: the cache has one moving tag; nothing runs from it
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
      description  = "Unused layers expire after five days"
      selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 5 }
      action       = { type = "expire" }
    }]
  })
}
