# Instance profile of the host on which scripts/node/image builds the nodes' image: Systems Manager reaches it, and it reaches
# nothing of the platform.

data "aws_iam_policy_document" "assume_by_ec2" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "image_builder" {
  name                 = "${var.project}-image-builder"
  path                 = "/pipeline/"
  description          = "Builder of the nodes' image"
  assume_role_policy   = data.aws_iam_policy_document.assume_by_ec2.json
  permissions_boundary = aws_iam_policy.pipeline_boundary.arn
}

resource "aws_iam_instance_profile" "image_builder" {
  name = aws_iam_role.image_builder.name
  role = aws_iam_role.image_builder.name
}

resource "aws_iam_role_policy_attachment" "image_builder" {
  role       = aws_iam_role.image_builder.name
  policy_arn = "${local.arn}:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

# AmazonSSMManagedInstanceCore grants every parameter of the account. This takes them away.
resource "aws_iam_role_policy" "image_builder" {
  name   = "no-parameters"
  role   = aws_iam_role.image_builder.name
  policy = data.aws_iam_policy_document.image_builder.json
}

data "aws_iam_policy_document" "image_builder" {
  statement {
    sid       = "NoParameters"
    effect    = "Deny"
    actions   = ["ssm:GetParameter", "ssm:GetParameters"]
    resources = ["*"]
  }
}
