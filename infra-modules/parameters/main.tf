resource "aws_ssm_parameter" "this" {
  # checkov:skip=CKV2_AWS_34: addresses and names are not secret, and readers need no KMS key
  # checkov:skip=CKV_AWS_337: as above
  for_each = var.values

  name           = "${var.path}/${each.key}"
  description    = each.value.description
  type           = "String"
  tier           = "Intelligent-Tiering"
  insecure_value = each.value.value
}
