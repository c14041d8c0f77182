mock_provider "aws" {
  mock_data "aws_route53_zone" {
    defaults = { zone_id = "Z0EXISTING" }
  }
}

variables {
  name              = "causeway-test"
  public_zone_name  = "example.com"
  private_zone_name = "causeway.internal"
  vpc_ids = {
    primary = { id = "vpc-0a", region = "eu-west-1" }
    another = { id = "vpc-0c", region = "eu-west-1" }
  }
  writer  = { address = "pg-1.eu-west-1.causeway.internal" }
  readers = ["10.1.144.11"]
  api = {
    primary   = { dns_name = "api-1.eu-west-1.elb.amazonaws.com", zone_id = "Z0ELB1" }
    secondary = { dns_name = "api-2.eu-central-1.elb.amazonaws.com", zone_id = "Z0ELB2" }
  }
}

run "records_have_the_shape_that_failover_ctl_writes" {
  command = apply

  assert {
    condition = (
      aws_route53_record.failover["writer"].name == "db-writer.causeway.internal" && aws_route53_record.failover["writer"].type == "CNAME" &&
      aws_route53_record.failover["writer"].records == toset(["pg-1.eu-west-1.causeway.internal"]) && aws_route53_record.failover["writer"].ttl == 5
    )
    error_message = "The writer record must be a CNAME to the node's name."
  }
  assert {
    condition = (
      aws_route53_record.epoch["writer"].name == "_epoch.db-writer.causeway.internal" && aws_route53_record.epoch["writer"].type == "TXT" &&
      aws_route53_record.epoch["writer"].records == toset(["epoch=0"]) && aws_route53_record.epoch["writer"].zone_id == aws_route53_zone.private.zone_id
    )
    error_message = "Beside the writer record must stand its epoch, below every epoch of a lease."
  }
  assert {
    condition = (
      aws_route53_record.failover["api"].name == "api.example.com" && aws_route53_record.failover["api"].type == "CNAME" &&
      aws_route53_record.failover["api"].zone_id == aws_route53_zone.public[0].zone_id && aws_route53_record.epoch["api"].name == "_epoch.api.example.com"
    )
    error_message = "The API's record must be a CNAME in the public zone, with its epoch."
  }
  assert {
    condition     = aws_route53_record.failover["reader"].type == "A" && aws_route53_record.failover["reader"].records == toset(["10.1.144.11"])
    error_message = "The reader record must hold the addresses."
  }
  assert {
    condition = output.failover_record_names == {
      private = ["db-writer.causeway.internal", "_epoch.db-writer.causeway.internal", "db-reader.causeway.internal", "_epoch.db-reader.causeway.internal"]
      public  = ["api.example.com", "_epoch.api.example.com"]
    }
    error_message = "The nodes' policies need the name of every record that failover-ctl owns."
  }
}

# Planned over the state of the run before: what failover-ctl wrote since is not looked at.
run "records_are_left_alone_once_they_are_made" {
  command = apply

  variables {
    writer   = { address = "10.1.128.11" }
    readers  = ["10.1.160.11"]
    ttl_secs = 30
    api      = { primary = { dns_name = "api-9.eu-west-1.elb.amazonaws.com", zone_id = "Z0ELB1" } }
  }

  assert {
    condition = (
      aws_route53_record.failover["writer"].type == "CNAME" && aws_route53_record.failover["writer"].ttl == 5 &&
      aws_route53_record.failover["writer"].records == toset(["pg-1.eu-west-1.causeway.internal"]) &&
      aws_route53_record.failover["reader"].records == toset(["10.1.144.11"]) &&
      aws_route53_record.failover["api"].records == toset(["api-1.eu-west-1.elb.amazonaws.com"])
    )
    error_message = "A record that failover-ctl owns may not be changed once it is made."
  }
  assert {
    condition     = alltrue([for record in aws_route53_record.epoch : record.ttl == 5 && record.records == toset(["epoch=0"])])
    error_message = "An epoch may not be changed once it is made."
  }
}

run "api_fails_over_by_health_check" {
  command = plan

  assert {
    condition     = toset(keys(module.api)) == toset(["primary", "secondary"]) && output.names.api_auto == "api-auto.example.com"
    error_message = "Both regions must stand behind one name of its own."
  }
}

run "zones" {
  command = plan

  assert {
    condition     = alltrue([for vpc in aws_route53_zone.private.vpc : vpc.vpc_id == "vpc-0a"]) && keys(aws_route53_zone_association.this) == ["another"]
    error_message = "The private zone must be made with the first VPC, and the others associated."
  }
  assert {
    condition     = !coalesce(aws_route53_zone.private.force_destroy, false) && !coalesce(aws_route53_zone.public[0].force_destroy, false)
    error_message = "A zone with records may not be destroyed."
  }
}

run "writer_by_address_in_a_zone_that_is_there" {
  command = plan

  variables {
    private_zone_name  = "other.internal"
    create_public_zone = false
    writer             = { address = "10.1.128.11" }
    readers            = []
    api                = {}
  }

  assert {
    condition     = output.public_zone_id == "Z0EXISTING" && length(output.public_name_servers) == 0 && length(aws_route53_zone.public) == 0
    error_message = "A public zone that is there must be looked up, and not made."
  }
  assert {
    condition     = keys(aws_route53_record.failover) == ["writer"] && length(module.api) == 0
    error_message = "Without readers and API there is the writer record alone."
  }
}

run "refuses_a_public_zone_that_is_no_name" {
  command         = plan
  expect_failures = [var.public_zone_name]

  variables {
    public_zone_name = "Example.com."
  }
}

run "refuses_a_private_zone_that_is_no_name" {
  command         = plan
  expect_failures = [var.private_zone_name]

  variables {
    private_zone_name = "internal"
  }
}

run "refuses_one_name_for_both_zones" {
  command         = plan
  expect_failures = [var.private_zone_name]

  variables {
    private_zone_name = "example.com"
  }
}

run "refuses_a_private_zone_without_a_vpc" {
  command         = plan
  expect_failures = [var.vpc_ids]

  variables {
    vpc_ids = { dr = { id = "vpc-0b", region = "eu-central-1" } }
  }
}

run "refuses_a_writer_without_an_address" {
  command         = plan
  expect_failures = [var.writer]

  variables {
    writer = { address = "pg-1" }
  }
}

run "refuses_a_reader_that_is_a_name" {
  command         = plan
  expect_failures = [var.readers]

  variables {
    readers = ["pg-2.eu-west-1.causeway.internal"]
  }
}

run "refuses_records_that_are_kept_for_long" {
  command         = plan
  expect_failures = [var.ttl_secs]

  variables {
    ttl_secs = 300
  }
}

run "refuses_a_third_api" {
  command         = plan
  expect_failures = [var.api]

  variables {
    api = {
      primary  = { dns_name = "api-1.eu-west-1.elb.amazonaws.com", zone_id = "Z0ELB1" }
      tertiary = { dns_name = "api-3.eu-west-3.elb.amazonaws.com", zone_id = "Z0ELB3" }
    }
  }
}

run "refuses_a_secondary_api_alone" {
  command         = plan
  expect_failures = [var.api]

  variables {
    api = { secondary = { dns_name = "api-2.eu-central-1.elb.amazonaws.com", zone_id = "Z0ELB2" } }
  }
}

run "refuses_a_wrong_name" {
  command         = plan
  expect_failures = [var.name]

  variables {
    name = "causeway.test"
  }
}

run "refuses_half_a_second" {
  command         = plan
  expect_failures = [var.ttl_secs]

  variables {
    ttl_secs = 2.5
  }
}

run "refuses_a_name_with_two_hyphens" {
  command         = plan
  expect_failures = [var.name]

  variables {
    name = "causeway--test"
  }
}
