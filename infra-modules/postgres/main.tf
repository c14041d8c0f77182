locals {
  # By this tag and the tag `Node` the nodes may stop each other, in both regions, and nothing else.
  cluster_tag = "${var.name}/${var.cluster}"
}
