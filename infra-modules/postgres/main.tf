locals {
  # Nodes may stop each other, in both regions, by this tag and the tag `Node`.
  cluster_tag = "${var.name}/${var.cluster}"
}
