mock_provider "aws" {
  source          = "../private-host/tests/mocks"
  override_during = plan

  mock_resource "aws_placement_group" {
    defaults = { id = "placement-group" }
  }
}

variables {
  name       = "causeway-test"
  cluster    = "main"
  vpc_id     = "vpc-0123456789abcdef0"
  aws_access = { endpoint_security_group_id = "sg-0e", s3_prefix_list_id = "pl-0a" }
  subnet_ids = {
    eu-west-1a = "subnet-0a"
    eu-west-1b = "subnet-0b"
    eu-west-1c = "subnet-0c"
  }
  nodes = {
    eu-west-1a-1 = { zone = "eu-west-1a", private_ip = "10.1.128.11" }
    eu-west-1b-1 = { zone = "eu-west-1b" }
  }
  instance_type          = "m7g.large"
  data_volume            = { size_gib = 200, iops = 6000, throughput = 500 }
  wal_volume             = { size_gib = 50 }
  kms_key_arn            = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  api_security_group_ids = { api = "sg-0a" }
  peer_cidrs             = ["10.2.128.0/20"]
  monitoring_cidrs       = ["10.1.64.0/24"]
  private_zone_id        = "Z0PRIVATE"
  private_zone_name      = "causeway.internal"
  lease                  = { bucket_arn = "arn:aws:s3:::causeway-test-lease" }
  backup = {
    bucket_arns  = ["arn:aws:s3:::causeway-test-backup-a", "arn:aws:s3:::causeway-test-backup-b"]
    kms_key_arns = ["arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"]
  }
  secret_arns = ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:causeway-test/replicator-AbCdEf"]
  dns         = { zone_id = "Z0PRIVATE", record_names = ["DB-writer.causeway.internal."] }
}

override_data {
  target = data.aws_ec2_instance_type.node
  values = { supported_architectures = ["arm64"], hypervisor = "nitro", bare_metal = false, ebs_performance_baseline_iops = 20000, ebs_performance_baseline_throughput = 700 }
}

run "nodes_are_closed_and_encrypted" {
  command = plan

  assert {
    condition     = alltrue([for it in aws_instance.node : it.metadata_options[0].http_tokens == "required" && it.metadata_options[0].http_put_response_hop_limit == 1])
    error_message = "a node must require IMDSv2 with a hop limit of 1"
  }

  assert {
    condition     = alltrue([for it in aws_instance.node : !it.associate_public_ip_address && it.monitoring && it.disable_api_termination && it.root_block_device[0].encrypted])
    error_message = "a node must have no public address, detailed monitoring, an encrypted root, and not be ended by one call"
  }

  assert {
    condition     = alltrue([for it in aws_instance.node : it.root_block_device[0].kms_key_id == var.kms_key_arn])
    error_message = "a root volume must be encrypted with the given key"
  }

  assert {
    condition     = alltrue([for it in aws_instance.node : it.instance_initiated_shutdown_behavior == "stop"])
    error_message = "a node that shuts itself down must be there to be started again"
  }

  assert {
    condition     = alltrue([for node, it in aws_instance.node : it.tags["Cluster"] == "causeway-test/main" && it.tags["Node"] == node])
    error_message = "a node must carry the tags by which the others may stop it, and it not itself"
  }

  assert {
    condition     = aws_instance.node["eu-west-1b-1"].ami == "ami-0123456789abcdef0" && endswith(data.aws_ssm_parameter.debian[0].name, "/arm64")
    error_message = "without an image a node must have Debian's, for its own architecture"
  }

  assert {
    condition     = strcontains(aws_instance.node["eu-west-1a-1"].user_data, "until python3")
    error_message = "user data runs once, so a node must wait for S3, or it is never reachable"
  }

  assert {
    condition     = !strcontains(aws_instance.node["eu-west-1a-1"].user_data, "causeway-test") && !can(regex("(?i)passw|secret|private", aws_instance.node["eu-west-1a-1"].user_data))
    error_message = "the user data must say nothing of the installation, and hold no secret"
  }

  assert {
    condition = (
      strcontains(aws_instance.node["eu-west-1a-1"].user_data, "ListenAddress 127.0.0.1\n") && strcontains(aws_instance.node["eu-west-1a-1"].user_data, "AllowUsers admin\n") &&
      yamldecode(aws_instance.node["eu-west-1a-1"].user_data).write_files[1].content == file("authorized-keys")
    )
    error_message = "sshd must listen on loopback, for the administrator alone, and ask the metadata service for keys"
  }

  assert {
    condition     = aws_placement_group.this.strategy == "spread" && alltrue([for it in aws_instance.node : it.placement_group == "placement-group"])
    error_message = "nodes must not share a rack"
  }
}

run "volumes_are_of_their_own" {
  command = plan

  assert {
    condition     = length(aws_ebs_volume.this) == 4 && length(aws_volume_attachment.this) == 4
    error_message = "each node must have a volume for data and one for WAL"
  }

  assert {
    condition     = alltrue([for it in aws_ebs_volume.this : it.encrypted && it.type == "gp3" && it.kms_key_id == var.kms_key_arn && it.final_snapshot])
    error_message = "every volume must be gp3, encrypted with the given key, and leave a snapshot"
  }

  assert {
    condition     = aws_ebs_volume.this["eu-west-1a-1/data"].iops == 6000 && aws_ebs_volume.this["eu-west-1a-1/wal"].size == 50
    error_message = "each volume must have the size that was asked for"
  }
}

run "only_those_who_must_reach_a_node" {
  command = plan

  assert {
    condition = toset([
      for it in concat(
        values(aws_vpc_security_group_ingress_rule.api), values(aws_vpc_security_group_ingress_rule.node),
        values(aws_vpc_security_group_ingress_rule.peer), values(aws_vpc_security_group_ingress_rule.monitoring)
      ) : "${it.from_port} ${coalesce(it.cidr_ipv4, it.referenced_security_group_id)}"
      ]) == toset([
      "5432 sg-0a", "5432 ${aws_security_group.node.id}", "8009 ${aws_security_group.node.id}", "5432 10.2.128.0/20", "8009 10.2.128.0/20",
      "8009 10.1.64.0/24", "9100 10.1.64.0/24", "9187 10.1.64.0/24",
    ])
    error_message = "the API and the nodes must be let in by their groups, the nodes of the other region by their subnets, and Prometheus by its own"
  }

  assert {
    condition = toset([
      for it in concat(values(aws_vpc_security_group_egress_rule.node), values(aws_vpc_security_group_egress_rule.peer)) :
      "${it.from_port}-${it.to_port} ${coalesce(it.cidr_ipv4, it.referenced_security_group_id)}"
      ]) == toset([
      "5432-5432 ${aws_security_group.node.id}", "8009-8009 ${aws_security_group.node.id}", "5432-5432 10.2.128.0/20", "8009-8009 10.2.128.0/20",
    ])
    error_message = "besides AWS, a node must reach the other nodes, and no other address"
  }

  assert {
    condition = alltrue([
      for it in concat(values(aws_vpc_security_group_ingress_rule.peer), values(aws_vpc_security_group_ingress_rule.monitoring)) :
      it.cidr_ipv4 != "0.0.0.0/0"
    ])
    error_message = "no rule may let in everyone"
  }

  assert {
    condition = alltrue([
      for it in concat(
        values(aws_vpc_security_group_ingress_rule.api), values(aws_vpc_security_group_ingress_rule.node),
        values(aws_vpc_security_group_ingress_rule.peer), values(aws_vpc_security_group_ingress_rule.monitoring)
      ) : it.from_port == it.to_port && contains([5432, 8009, 9100, 9187], it.from_port)
    ])
    error_message = "only PostgreSQL, the agent and the exporters may be reached, and never port 22"
  }

  assert {
    condition     = alltrue([for it in aws_vpc_security_group_ingress_rule.api : it.from_port == 5432])
    error_message = "the API must reach PostgreSQL and nothing else"
  }

  assert {
    condition     = alltrue([for it in aws_vpc_security_group_ingress_rule.monitoring : it.from_port != 5432])
    error_message = "Prometheus must not reach PostgreSQL"
  }
}

run "no_pooler_then_its_ports_are_closed" {
  command = plan

  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.pooler) == 0 && !contains([for rule in aws_vpc_security_group_ingress_rule.monitoring : rule.from_port], 9127)
    error_message = "nothing listens on the ports of a pooler that was not asked for"
  }
}

run "pooler_then_open_to_the_clients_of_postgresql" {
  command = plan
  variables {
    pooler = true
  }

  assert {
    condition = { for label, rule in aws_vpc_security_group_ingress_rule.pooler : label => "${rule.ip_protocol} ${rule.from_port}-${rule.to_port} ${rule.referenced_security_group_id}" } == {
      for label, rule in aws_vpc_security_group_ingress_rule.api : label => "tcp 6432-6432 ${rule.referenced_security_group_id}"
    } && length(aws_vpc_security_group_ingress_rule.pooler) == 1
    error_message = "the clients of PostgreSQL must reach the pooler"
  }

  assert {
    condition     = [for rule in aws_vpc_security_group_ingress_rule.monitoring : rule.cidr_ipv4 if rule.from_port == 9127 && rule.to_port == 9127] == ["10.1.64.0/24"]
    error_message = "Prometheus must reach the pooler's exporter"
  }
}

run "clients_of_the_pooler_reach_no_other_port" {
  command = plan
  variables {
    pooler         = true
    pooler_clients = { reports = { security_group_id = "sg-0f" }, office = { cidr = "10.9.16.0/24" } }
  }

  assert {
    condition = { for label, rule in aws_vpc_security_group_ingress_rule.pooler_client : label => "${rule.ip_protocol} ${rule.from_port}-${rule.to_port} ${coalesce(rule.referenced_security_group_id, rule.cidr_ipv4)}" } == {
      reports = "tcp 6432-6432 sg-0f", office = "tcp 6432-6432 10.9.16.0/24"
    }
    error_message = "a client must reach the pooler"
  }

  assert {
    condition     = toset(keys(aws_vpc_security_group_ingress_rule.api)) == toset(["api"]) && toset(keys(aws_vpc_security_group_ingress_rule.pooler)) == toset(["api"])
    error_message = "a client of the pooler must not reach PostgreSQL"
  }
}

run "each_node_has_a_role_of_its_own" {
  command = plan

  assert {
    condition     = { for node, it in aws_iam_role.node : node => it.name } == { for node in keys(var.nodes) : node => "causeway-test-postgres-${node}" }
    error_message = "each node must have a role, whose name ends with the node's: buckets know it by that name"
  }

  assert {
    condition = alltrue([
      for node, it in aws_instance.node :
      it.iam_instance_profile == aws_iam_instance_profile.node[node].name && aws_iam_instance_profile.node[node].role == aws_iam_role.node[node].name
    ])
    error_message = "a node must have the credentials of its own role"
  }

  assert {
    condition = alltrue([
      for attached in [aws_iam_role_policy.storage, aws_iam_role_policy.failover, aws_iam_role_policy_attachment.session_manager] :
      { for node, it in attached : node => it.role } == { for node, it in aws_iam_role.node : node => it.name }
    ])
    error_message = "every role must have what a node needs"
  }
}

run "a_node_may_do_little" {
  command = plan

  assert {
    condition = alltrue([
      for it in concat(data.aws_iam_policy_document.storage.statement, data.aws_iam_policy_document.failover["eu-west-1a-1"].statement) :
      alltrue([for action in it.actions : !strcontains(action, "*") && !(strcontains(action, "Delete"))])
    ])
    error_message = "no action may be a wildcard, and none may delete"
  }

  assert {
    condition = alltrue([
      for it in concat(data.aws_iam_policy_document.storage.statement, data.aws_iam_policy_document.failover["eu-west-1a-1"].statement) :
      contains(coalesce(it.resources, it.not_resources), "*") == (it.sid == "SeeWhetherFenced")
    ])
    error_message = "every statement must name its resources, except the one that cannot"
  }

  assert {
    condition = one([
      for it in data.aws_iam_policy_document.storage.statement : "${it.effect} ${join(" ", it.not_resources)}" if contains(it.actions, "ssm:GetParameter")
    ]) == "Deny arn:aws:ssm:*:123456789012:parameter/causeway-test/* arn:aws:ssm:*::parameter/aws/service/*"
    error_message = "a node must read the parameters of its own platform, and no other's"
  }

  assert {
    condition = {
      for it in concat(data.aws_iam_policy_document.storage.statement, data.aws_iam_policy_document.failover["eu-west-1a-1"].statement) : it.sid => it.actions if it.effect != "Deny"
      } == {
      Lease            = toset(["s3:GetObject", "s3:PutObject"])
      Backups          = toset(["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"])
      List             = toset(["s3:ListBucket"])
      BackupKeys       = toset(["kms:Decrypt", "kms:GenerateDataKey"])
      Secrets          = toset(["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"])
      SecretsKeys      = toset(["kms:Decrypt"])
      Fence            = toset(["ec2:StopInstances"])
      SeeWhetherFenced = toset(["ec2:DescribeInstances"])
      MoveWriterRecord = toset(["route53:ChangeResourceRecordSets"])
      ReadRecords      = toset(["route53:ListResourceRecordSets"])
      SeeWhetherMoved  = toset(["route53:GetChange"])
    }
    error_message = "a node may do what failover-ctl and backup-agent call, and nothing else"
  }

  assert {
    condition     = one([for it in data.aws_iam_policy_document.storage.statement : it.resources if it.sid == "Backups"]) == toset([for bucket in var.backup.bucket_arns : "${bucket}/main/*"])
    error_message = "a node must reach its own cluster's backups, and no other's"
  }

  assert {
    condition = {
      for it in data.aws_iam_policy_document.storage.statement : it.sid => [for c in it.condition : "${c.variable} ${one(c.values)}"] if endswith(it.sid, "Keys")
    } == { BackupKeys = ["kms:ViaService s3.*.amazonaws.com"], SecretsKeys = ["kms:ViaService secretsmanager.eu-west-1.amazonaws.com"] }
    error_message = "a key must open what S3 and Secrets Manager hand out, and nothing that was carried away"
  }

  assert {
    condition     = alltrue([for it in aws_iam_role_policy_attachment.session_manager : it.policy_arn == "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"])
    error_message = "of AWS's own policies a node has Session Manager's"
  }

  assert {
    condition     = one([for it in data.aws_iam_policy_document.storage.statement : one(it.resources) if it.sid == "Lease"]) == "arn:aws:s3:::causeway-test-lease/clusters/main/*"
    error_message = "a node must write its own cluster's part of the lease bucket, and no other"
  }

  assert {
    condition = alltrue([
      for node, document in data.aws_iam_policy_document.failover : toset(one([
        for it in document.statement :
        [for condition in it.condition : "${condition.test} ${condition.variable} ${one(condition.values)}"] if it.sid == "Fence"
      ])) == toset(["StringEquals aws:ResourceTag/Cluster causeway-test/main", "StringNotEquals aws:ResourceTag/Node ${node}"])
    ])
    error_message = "a node must stop the other nodes of its cluster, and neither itself nor anything else"
  }

  assert {
    condition = toset(flatten([
      for it in data.aws_iam_policy_document.failover["eu-west-1a-1"].statement : [
        for condition in it.condition : condition.values if endswith(condition.variable, "NormalizedRecordNames")
      ]
    ])) == toset(["db-writer.causeway.internal", "_epoch.db-writer.causeway.internal"])
    error_message = "a node must change the writer's record and its epoch, and no other"
  }
}

run "replicated_secrets_are_decrypted_with_their_key" {
  command = plan

  variables {
    secret_kms_key_arns = ["arn:aws:kms:eu-west-1:123456789012:key/22222222-2222-2222-2222-222222222222"]
  }

  assert {
    condition     = one([for it in data.aws_iam_policy_document.storage.statement : it.resources if it.sid == "SecretsKeys"]) == toset(concat([var.kms_key_arn], var.secret_kms_key_arns))
    error_message = "a node must be able to read the copy of a secret, which has another key"
  }
}

run "a_node_has_the_name_in_its_certificate" {
  command = plan

  assert {
    condition     = aws_route53_record.node["eu-west-1a-1"].name == "eu-west-1a-1.causeway.internal" && aws_route53_record.node["eu-west-1a-1"].ttl == 60 && output.nodes["eu-west-1a-1"].address == "eu-west-1a-1.causeway.internal"
    error_message = "the record and the address must be the same name"
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.recover) == 2 && contains(aws_cloudwatch_metric_alarm.recover["eu-west-1a-1"].alarm_actions, "arn:aws:automate:eu-west-1:ec2:recover")
    error_message = "each node must be recovered when its host fails"
  }

  assert {
    condition     = alltrue([for it in aws_cloudwatch_metric_alarm.recover : it.namespace == "AWS/EC2" && toset(keys(it.dimensions)) == toset(["InstanceId"])])
    error_message = "an alarm must have the namespace and the dimensions of its metric"
  }
}

run "a_region_that_waits_for_a_command_may_have_one_node" {
  command = plan

  variables {
    nodes              = { eu-west-1a-1 = { zone = "eu-west-1a" } }
    automatic_failover = false
    dns                = null
    secret_arns        = []
    ami_id             = "ami-00000000000000001"
  }

  assert {
    condition     = length(aws_instance.node) == 1 && aws_instance.node["eu-west-1a-1"].ami == "ami-00000000000000001"
    error_message = "one node, of the given image"
  }

  assert {
    condition     = [for it in data.aws_iam_policy_document.failover["eu-west-1a-1"].statement : it.sid] == ["Fence", "SeeWhetherFenced"]
    error_message = "without records a node must have no right in Route 53"
  }
}
