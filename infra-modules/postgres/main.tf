locals {
  # By this tag the nodes may stop each other, in both regions, and nothing else.
  cluster_tag = "${var.name}/${var.cluster}"
}
