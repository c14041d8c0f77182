# Buckets through which Ansible transfers files to the hosts of one environment in one region: it stores a file,
# and the host fetches it by a presigned URL that is valid for an hour. A file may contain a secret, so no
# version is kept, and leftovers of an interrupted playbook expire after a day.

locals {
  database_regions = [var.regions.primary, var.regions.dr]

  transfers = {
    for pair in setproduct(keys(local.names), local.database_regions) : "${pair[0]} ${pair[1]}" => { name = local.names[pair[0]], region = pair[1] }
  }
}

resource "aws_s3_bucket" "transfer" {
  # checkov:skip=CKV_AWS_18: a file exists for seconds; CloudTrail's data events record its readers
  # checkov:skip=CKV_AWS_21: deleted files must not be kept as versions
  # checkov:skip=CKV_AWS_144: as above
  # checkov:skip=CKV2_AWS_62: no consumer of events
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

    # The account's aws/s3 key: usable by readers of the bucket, and only there.
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
