# DNS name of each node, as in its certificate.

resource "aws_route53_record" "node" {
  for_each = var.nodes

  zone_id = var.private_zone_id
  name    = "${each.key}.${var.private_zone_name}"
  type    = "A"
  ttl     = 60
  records = [aws_instance.node[each.key].private_ip]
}
