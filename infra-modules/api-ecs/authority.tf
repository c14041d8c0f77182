# How an authority of one's own reaches a container that has no shell and cannot write: another container writes it
# to a volume of the task, and ends before the API starts.

locals {
  has_authority       = var.database.ca_certificate_pem != null
  authority_directory = "/etc/causeway"

  authority_mounts = local.has_authority ? [{ sourceVolume = "authority", containerPath = local.authority_directory }] : []
  authority_writers = local.has_authority ? [merge(local.confined, {
    name        = "authority"
    image       = var.database.ca_writer_image
    essential   = false
    command     = ["sh", "-c", "printf '%s\\n' \"$AUTHORITY\" >${local.authority_directory}/root.crt"]
    environment = [{ name = "AUTHORITY", value = trimspace(var.database.ca_certificate_pem) }]
    mountPoints = local.authority_mounts
  })] : []
}
