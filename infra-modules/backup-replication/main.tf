data "aws_region" "current" {}

locals {
  region = data.aws_region.current.region
}

resource "aws_s3_bucket_replication_configuration" "this" {
  bucket = var.source_bucket.bucket
  role   = aws_iam_role.this.arn

  rule {
    id       = "all"
    status   = "Enabled"
    priority = 0

    filter {}

    # Deletions are not replicated.
    delete_marker_replication {
      status = "Disabled"
    }

    source_selection_criteria {
      sse_kms_encrypted_objects {
        status = "Enabled"
      }
    }

    destination {
      bucket = var.destination.arn

      encryption_configuration {
        replica_kms_key_id = var.destination.kms_key_arn
      }

      # Replication Time Control: S3 guarantees 15 minutes and publishes the lag.
      replication_time {
        status = "Enabled"

        time {
          minutes = 15
        }
      }

      metrics {
        status = "Enabled"

        event_threshold {
          minutes = 15
        }
      }
    }
  }

  lifecycle {
    precondition {
      condition     = var.destination.region != local.region
      error_message = "destination.region is ${local.region}, like the source's: a copy in the same region is lost with it. Name the other region's bucket."
    }
    precondition {
      condition     = var.destination.arn != var.source_bucket.arn
      error_message = "The bucket would be copied to itself: destination.arn must be another bucket's."
    }
  }

  depends_on = [aws_iam_role_policy.this]
}
