data "aws_region" "current" {}

data "aws_partition" "current" {}

locals {
  arn = "arn:${data.aws_partition.current.partition}:s3:::${var.bucket}"
}

# S3 deletes no non-empty bucket, and no principal can delete locked versions.
resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_144:The module backup-replication replicates it, since that needs both buckets first.
  #checkov:skip=CKV_AWS_18:Named roles write objects once; CloudTrail's data events record readers.
  #checkov:skip=CKV2_AWS_62:No consumer of events.
  bucket              = var.bucket
  object_lock_enabled = true

  tags = { Name = "${var.name}-backup" }

  lifecycle {
    precondition {
      condition     = strcontains(var.kms_key_arn, ":kms:${data.aws_region.current.region}:")
      error_message = "kms_key_arn must be in the bucket's region, ${data.aws_region.current.region}: S3 encrypts with a key of that region."
    }
  }
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_object_lock_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    default_retention {
      mode = var.object_lock.mode
      days = var.object_lock.days
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = var.kms_key_arn
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

# Current versions stay: WAL and packs of any age may be needed by a retained backup, so expiry by age would be
# wrong.
resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    id     = "noncurrent"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.noncurrent_days
    }

    expiration {
      expired_object_delete_marker = true
    }

    # A backup that is still uploading after two days was interrupted.
    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}
