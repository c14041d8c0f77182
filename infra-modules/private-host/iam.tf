# Role of the host: sessions of Systems Manager. The caller adds what the host is for.

data "aws_caller_identity" "this" {}

locals {
  label = "${var.name}-${var.role}"
  # IAM is global; the name contains the region.
  role_name = "${local.label}-${data.aws_region.this.region}"
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "this" {
  name                 = local.role_name
  description          = "${var.title} of ${var.name} in ${data.aws_region.this.region}"
  assume_role_policy   = data.aws_iam_policy_document.assume.json
  permissions_boundary = var.permissions_boundary
}

resource "aws_iam_instance_profile" "this" {
  name = aws_iam_role.this.name
  role = aws_iam_role.this.name
}

resource "aws_iam_role_policy_attachment" "session_manager" {
  role       = aws_iam_role.this.name
  policy_arn = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

resource "aws_iam_role_policy" "parameters" {
  name   = "parameters"
  role   = aws_iam_role.this.name
  policy = data.aws_iam_policy_document.parameters.json
}

data "aws_iam_policy_document" "parameters" {
  # AmazonSSMManagedInstanceCore grants every parameter of the account. This takes away all but the platform's own and AWS's.
  statement {
    sid     = "NoParametersOfOthers"
    effect  = "Deny"
    actions = ["ssm:GetParameter", "ssm:GetParameters"]
    not_resources = [
      "arn:aws:ssm:*:${data.aws_caller_identity.this.account_id}:parameter/${var.name}/*",
      "arn:aws:ssm:*::parameter/aws/service/*",
    ]
  }
}
