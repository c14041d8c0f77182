# Functions that the scripts here share, and those for ECS. Sourced, not executed.
# shellcheck shell=bash

shopt -s inherit_errexit

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

# Polling interval of ECS, and the timeout, in seconds.
: "${DEPLOY_POLL:=5}" "${DEPLOY_TIMEOUT:=900}"

# needs <option> <value>: exits with an error if the value is empty.
needs() { [ -n "$2" ] || die "--$1 is missing; ${0##*/} --help lists the options"; }

# usage: prints the comment at the top of the calling script.
usage() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"; exit "${1:-0}"; }

# parameter <name> <region>: prints the value that Terraform wrote, or nothing if there is none.
parameter() {
    local answer
    if answer=$(aws ssm get-parameter --region "$2" --name "$1" --query Parameter.Value --output text 2>&1); then
        printf '%s\n' "$answer"
    else
        [[ $answer == *ParameterNotFound* ]] || die "$answer"
    fi
}

# pinned <image>: rejects a tag that can be moved to another image.
pinned() {
    case ${1##*/} in
        *:latest) die "the image \`$1\` is tagged latest, which is moved with each release: name a digest or a version" ;;
        *:?*) ;;
        *) die "the image \`$1\` has neither digest nor tag: name one" ;;
    esac
}

# service <cluster> <service>: prints its description by ECS.
service() {
    local found
    found=$(aws ecs describe-services --cluster "$1" --services "$2" --output json) || return 1
    jq -e '.services[] | select(.status == "ACTIVE")' <<< "$found" \
        || die "there is no active service \`$2\` in the cluster \`$1\`"
}

# with_image <family> <image>: prints the ARN of a task definition that is the family's newest with this
# image in the container `api`. The newest is Terraform's or the last release's, so what Terraform has
# changed meanwhile takes effect with the next release.
with_image() {
    local described asked
    described=$(aws ecs describe-task-definition --task-definition "$1" --include TAGS --output json) || return 1
    jq -e 'any(.taskDefinition.containerDefinitions[]; .name == "api")' <<< "$described" > /dev/null \
        || die "the task definition \`$1\` has no container \`api\`: name that of the API"
    if jq -e --arg image "$2" 'any(.taskDefinition.containerDefinitions[]; .name == "api" and .image == $image)' \
        <<< "$described" > /dev/null; then
        jq -r .taskDefinition.taskDefinitionArn <<< "$described"
        return
    fi
    asked=$(jq --arg image "$2" '
        (.tags // []) as $tags
        | .taskDefinition
        | del(.taskDefinitionArn, .revision, .status, .requiresAttributes, .compatibilities,
              .registeredAt, .registeredBy, .deregisteredAt)
        | (.containerDefinitions[] | select(.name == "api")).image = $image
        | if $tags == [] then . else .tags = $tags end
        | del(.. | nulls)' <<< "$described")
    aws ecs register-task-definition --cli-input-json "$asked" \
        --query taskDefinition.taskDefinitionArn --output text
}
