data "aws_region" "current" {}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

resource "aws_kms_key" "this" {
  description             = "${var.name}: ${var.description}"
  enable_key_rotation     = true
  deletion_window_in_days = var.deletion_window_days
  policy                  = jsonencode({ Version = "2012-10-17", Statement = local.statements })

  tags = { Name = var.name }
}

resource "aws_kms_alias" "this" {
  name          = "alias/${coalesce(var.alias, var.name)}"
  target_key_id = aws_kms_key.this.key_id
}
