# Through these Ansible sends files to the hosts of one environment in one region: it writes one here, and
# has the host fetch it by an address that is good for an hour. A file may hold a secret, so no version of it
# is kept, and what a playbook that was broken off leaves behind is gone after a day.

locals {
  database_regions = [var.regions.primary, var.regions.dr]

  transfers = {
    for pair in setproduct(keys(local.names), local.database_regions) : "${pair[0]} ${pair[1]}" => { name = local.names[pair[0]], region = pair[1] }
  }
}

resource "aws_s3_bucket" "transfer" {
  # checkov:skip=CKV_AWS_18: a file is here for seconds; CloudTrail's data events tell who read it
  # checkov:skip=CKV_AWS_21: what was deleted is to be gone
  # checkov:skip=CKV_AWS_144: as above
  # checkov:skip=CKV2_AWS_62: nothing waits for events
  for_each = local.transfers

  region        = each.value.region
  bucket        = "${each.value.name}-ansible-${each.value.region}-${local.account}"
  force_destroy = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "transfer" {
  for_each = local.transfers

  region = each.value.region
  bucket = aws_s3_bucket.transfer[each.key].id

  rule {
    bucket_key_enabled = true

    # S3's own key of the account: who may read the bucket may use it, and only there.
    apply_server_side_encryption_by_default {
      sse_algorithm = "aws:kms"
    }
  }
}

resource "aws_s3_bucket_public_access_block" "transfer" {
  for_each = local.transfers

  region                  = each.value.region
  bucket                  = aws_s3_bucket.transfer[each.key].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "transfer" {
  for_each = local.transfers

  region = each.value.region
  bucket = aws_s3_bucket.transfer[each.key].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "transfer" {
  for_each = local.transfers

  region = each.value.region
  bucket = aws_s3_bucket.transfer[each.key].id

  rule {
    id     = "left-behind"
    status = "Enabled"

    filter {}

    expiration {
      days = 1
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}

data "aws_iam_policy_document" "transfer" {
  for_each = local.transfers

  statement {
    sid       = "OnlyTLS"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.transfer[each.key].arn, "${aws_s3_bucket.transfer[each.key].arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "transfer" {
  for_each = local.transfers

  region = each.value.region
  bucket = aws_s3_bucket.transfer[each.key].id
  policy = data.aws_iam_policy_document.transfer[each.key].json

  depends_on = [aws_s3_bucket_public_access_block.transfer]
}
