data "aws_region" "current" {}

data "aws_partition" "current" {}

locals {
  arn = "arn:${data.aws_partition.current.partition}:s3:::${var.bucket}"
}

# S3 deletes no non-empty bucket, so this one needs no other protection.
resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_144:A copy of the lease would be a second lease.
  #checkov:skip=CKV_AWS_145:Renewing the lease must not depend on a KMS key; SSE-S3 needs none.
  #checkov:skip=CKV_AWS_18:Every version of the lease contains the node that wrote it.
  #checkov:skip=CKV2_AWS_62:Agents poll; no consumer of events.
  bucket = var.bucket

  tags = { Name = "${var.name}-lease" }

  lifecycle {
    precondition {
      condition     = !contains(var.database_regions, data.aws_region.current.region)
      error_message = "The lease bucket would be in ${data.aws_region.current.region}, which has a database node: the loss of that region would take the lease with it. Pass a provider of a third region."
    }
  }
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket = aws_s3_bucket.this.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    id     = "replaced"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.noncurrent_days
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}
