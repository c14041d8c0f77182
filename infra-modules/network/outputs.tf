output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "cidr" {
  description = "CIDR block of the VPC, for peering."
  value       = aws_vpc.this.cidr_block
}

output "subnet_ids" {
  description = "Subnets by tier (public, private, data) and zone."
  value = {
    public  = { for zone, subnet in aws_subnet.public : zone => subnet.id }
    private = { for zone, subnet in aws_subnet.private : zone => subnet.id }
    data    = { for zone, subnet in aws_subnet.data : zone => subnet.id }
  }
}

output "public_cidrs" {
  description = "CIDR blocks of the public subnets, in the order of the zones."
  value       = [for zone in var.zones : local.cidrs.public[zone]]
}

output "private_cidrs" {
  description = "CIDR blocks of the private subnets, in the order of the zones."
  value       = [for zone in var.zones : local.cidrs.private[zone]]
}

output "data_cidrs" {
  description = "CIDR blocks of the data subnets, in the order of the zones, for the other region's security groups."
  value       = [for zone in var.zones : local.cidrs.data[zone]]
}

output "route_table_ids" {
  description = "Route tables of the private and the data subnets by name, for peering. The load balancer needs no route to the other region."
  value = merge(
    { data = aws_route_table.data.id },
    { for zone, table in aws_route_table.private : "private-${zone}" => table.id },
    { for zone, table in aws_route_table.data_nat : "data-${zone}" => table.id },
  )
}

output "aws_access" {
  description = "How a security group of this network names AWS: the group of the interface endpoints, and the prefix list of S3's gateway endpoint. Null without interface endpoints."
  value = length(local.endpoint_zones) == 0 ? null : {
    endpoint_security_group_id = aws_security_group.endpoints.id
    s3_prefix_list_id          = aws_vpc_endpoint.s3.prefix_list_id
  }
}
