# Permissions of `drill` and `operate`: reach hosts over Systems Manager. Instances are selected by their tags,
# which `apply` sets. A session on a host is root.

# A command on the drill hosts, and its result.
data "aws_iam_policy_document" "drill" {
  # checkov:skip=CKV_AWS_111: ssm:CancelCommand has no resource; the region limits it
  # checkov:skip=CKV_AWS_356: ssm:GetCommandInvocation and what describes instances have none either
  statement {
    sid       = "Parameter"
    actions   = ["ssm:GetParameter"]
    resources = [for name in local.names : "${local.arn}:ssm:${var.regions.state}:${local.account}:parameter/${name}/dr/restore-drill"]
  }

  statement {
    sid       = "Document"
    actions   = ["ssm:SendCommand"]
    resources = ["${local.arn}:ssm:${var.regions.dr}::document/AWS-RunShellScript"]
  }

  statement {
    sid       = "Host"
    actions   = ["ssm:SendCommand"]
    resources = ["${local.arn}:ec2:${var.regions.dr}:${local.account}:instance/*"]

    condition {
      test     = "StringEquals"
      variable = "ssm:resourceTag/project"
      values   = [var.project]
    }

    condition {
      test     = "StringEquals"
      variable = "ssm:resourceTag/Role"
      values   = ["restore-drill"]
    }
  }

  # It runs for the drill only.
  statement {
    sid       = "StartAndStop"
    actions   = ["ec2:StartInstances", "ec2:StopInstances"]
    resources = ["${local.arn}:ec2:${var.regions.dr}:${local.account}:instance/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/project"
      values   = [var.project]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/Role"
      values   = ["restore-drill"]
    }
  }

  # EC2 uses the volumes' key by a grant of the caller that starts the instance.
  statement {
    sid       = "GrantForItsVolumes"
    actions   = ["kms:CreateGrant"]
    resources = ["${local.arn}:kms:${var.regions.dr}:${local.account}:key/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/project"
      values   = [var.project]
    }

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["ec2.${var.regions.dr}.amazonaws.com"]
    }

    condition {
      test     = "Bool"
      variable = "kms:GrantIsForAWSResource"
      values   = ["true"]
    }
  }

  statement {
    sid       = "Outcome"
    actions   = ["ec2:DescribeInstances", "ssm:CancelCommand", "ssm:DescribeInstanceInformation", "ssm:GetCommandInvocation"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = [var.regions.dr]
    }
  }
}

# Permissions for Ansible: SSH through a session with the hosts of one environment, the values that Terraform wrote for
# them, and their secrets, which a session on a host could read too.
locals {
  # Administrator of Debian's images. sshd takes the key of EC2 Instance Connect for this user.
  host_user = "admin"

  # Of infra-primary's module secrets. Not among them: the identity that decrypts backups.
  host_secrets = ["api-owner", "api-service", "command-signing-key", "monitoring", "replicator", "rewinder"]
}

data "aws_iam_policy_document" "operate" {
  # checkov:skip=CKV_AWS_356: ec2:DescribeInstances has no resource; the region limits it
  # checkov:skip=CKV_AWS_108: the secrets of its environment's hosts, on which it is root
  for_each = local.names

  statement {
    sid       = "Inventory"
    actions   = ["ec2:DescribeInstances"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = local.database_regions
    }
  }

  statement {
    sid     = "Parameters"
    actions = ["ssm:GetParameter", "ssm:GetParameters", "ssm:GetParametersByPath"]
    resources = [
      for path in [each.value, "${each.value}/*"] : "${local.arn}:ssm:*:${local.account}:parameter/${path}"
    ]
  }

  statement {
    sid     = "Secrets"
    actions = ["secretsmanager:GetSecretValue"]
    resources = [
      for pair in setproduct(local.database_regions, local.host_secrets) : "${local.arn}:secretsmanager:${pair[0]}:${local.account}:secret:${each.value}/${pair[1]}-??????"
    ]
  }

  statement {
    sid       = "SecretsKeys"
    actions   = ["kms:Decrypt"]
    resources = [for region in local.database_regions : "${local.arn}:kms:${region}:${local.account}:key/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/environment"
      values   = [each.key]
    }

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = [for region in local.database_regions : "secretsmanager.${region}.amazonaws.com"]
    }
  }

  # A session with port 22 of the host itself, and nothing else.
  statement {
    sid       = "Tunnel"
    actions   = ["ssm:StartSession"]
    resources = [for region in local.database_regions : "${local.arn}:ssm:${region}::document/AWS-StartSSHSession"]
  }

  statement {
    sid       = "Hosts"
    actions   = ["ssm:StartSession"]
    resources = local.instance_arns

    dynamic "condition" {
      for_each = local.host_tags[each.key]

      content {
        test     = "StringEquals"
        variable = "ssm:resourceTag/${condition.key}"
        values   = condition.value
      }
    }
  }

  # A public key, which the host accepts for a minute.
  statement {
    sid       = "Keys"
    actions   = ["ec2-instance-connect:SendSSHPublicKey"]
    resources = local.instance_arns

    condition {
      test     = "StringEquals"
      variable = "ec2:osuser"
      values   = [local.host_user]
    }

    dynamic "condition" {
      for_each = local.host_tags[each.key]

      content {
        test     = "StringEquals"
        variable = "aws:ResourceTag/${condition.key}"
        values   = condition.value
      }
    }
  }

  # A session is named after the role session that starts it; the workflow names that `<name>-ansible`.
  statement {
    sid       = "OwnSessions"
    actions   = ["ssm:ResumeSession", "ssm:TerminateSession", "ssmmessages:OpenDataChannel"]
    resources = [for region in local.database_regions : "${local.arn}:ssm:${region}:${local.account}:session/${each.value}-ansible-*"]
  }
}

locals {
  database_regions = [var.regions.primary, var.regions.dr]
  instance_arns    = [for region in local.database_regions : "${local.arn}:ec2:${region}:${local.account}:instance/*"]
  host_tags        = { for e in var.environments : e => { project = [var.project], environment = [e], Role = ["postgres", "restore-drill", "monitoring"] } }
}
