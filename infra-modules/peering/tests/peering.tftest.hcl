mock_provider "aws" {
  override_during = plan

  mock_data "aws_region" {
    defaults = { region = "eu-west-1" }
  }
}

variables {
  name = "causeway-test"
  requester = {
    vpc_id          = "vpc-0a"
    cidr            = "10.1.0.0/16"
    route_table_ids = { data = "rtb-0a", private-eu-west-1a = "rtb-0b" }
  }
  accepter = {
    vpc_id          = "vpc-0b"
    cidr            = "10.2.0.0/16"
    region          = "eu-central-1"
    route_table_ids = { data = "rtb-0c" }
  }
}

run "routes_and_names_lead_both_ways" {
  command = apply

  assert {
    condition     = toset(keys(aws_route.requester)) == toset(["data", "private-eu-west-1a"]) && alltrue([for route in aws_route.requester : route.destination_cidr_block == "10.2.0.0/16"])
    error_message = "Every route table of the requester must lead to the accepter."
  }
  assert {
    condition     = aws_route.accepter["data"].destination_cidr_block == "10.1.0.0/16" && aws_route.accepter["data"].region == "eu-central-1"
    error_message = "Every route table of the accepter must lead back, in its own region."
  }
  assert {
    condition     = aws_vpc_peering_connection_options.requester.requester[0].allow_remote_vpc_dns_resolution && aws_vpc_peering_connection_options.accepter.accepter[0].allow_remote_vpc_dns_resolution
    error_message = "Names must resolve from both sides."
  }
  assert {
    condition     = aws_vpc_peering_connection.this.peer_region == "eu-central-1" && aws_vpc_peering_connection_accepter.this.region == "eu-central-1" && aws_vpc_peering_connection_accepter.this.auto_accept
    error_message = "The connection must be accepted in the other region."
  }
  assert {
    condition     = output.connection_id == aws_vpc_peering_connection_accepter.this.id
    error_message = "The output must be the accepted connection."
  }
}

run "networks_beside_each_other_do_not_overlap" {
  command = plan

  variables {
    requester = { vpc_id = "vpc-0a", cidr = "10.1.0.0/17", route_table_ids = {} }
    accepter  = { vpc_id = "vpc-0b", cidr = "10.1.128.0/20", region = "eu-central-1", route_table_ids = {} }
  }
}

run "refuses_the_same_network_twice" {
  command         = plan
  expect_failures = [var.accepter]

  variables {
    accepter = { vpc_id = "vpc-0b", cidr = "10.1.0.0/16", region = "eu-central-1", route_table_ids = {} }
  }
}

run "refuses_an_accepter_inside_the_requester" {
  command         = plan
  expect_failures = [var.accepter]

  variables {
    accepter = { vpc_id = "vpc-0b", cidr = "10.1.240.0/20", region = "eu-central-1", route_table_ids = {} }
  }
}

run "refuses_a_requester_inside_the_accepter" {
  command         = plan
  expect_failures = [var.accepter]

  variables {
    requester = { vpc_id = "vpc-0a", cidr = "10.2.16.0/20", route_table_ids = {} }
  }
}

run "refuses_a_requester_without_a_network" {
  command         = plan
  expect_failures = [var.requester]

  variables {
    requester = { vpc_id = "vpc-0a", cidr = "10.1.0.0", route_table_ids = {} }
  }
}

run "refuses_an_accepter_with_host_bits" {
  command         = plan
  expect_failures = [var.accepter]

  variables {
    accepter = { vpc_id = "vpc-0b", cidr = "10.2.0.1/16", region = "eu-central-1", route_table_ids = {} }
  }
}

run "refuses_one_region_for_both" {
  command         = plan
  expect_failures = [aws_vpc_peering_connection.this]

  variables {
    accepter = { vpc_id = "vpc-0b", cidr = "10.2.0.0/16", region = "eu-west-1", route_table_ids = {} }
  }
}

run "refuses_a_wrong_name" {
  command         = plan
  expect_failures = [var.name]

  variables {
    name = "1causeway"
  }
}

run "refuses_a_name_with_two_hyphens" {
  command         = plan
  expect_failures = [var.name]

  variables {
    name = "causeway--test"
  }
}
