# Targets for developers. `make demo` and `make test` install what they need.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# cargo's output.
TARGET := $(or $(CARGO_TARGET_DIR),target)
BUILT := $(TARGET)/debug

# Compose, as Docker's plugin or as a program of its own.
COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

# CI runners may not set it.
export HOME ?= $(shell echo ~)
export PATH := $(HOME)/.local/bin:$(HOME)/.cargo/bin:$(PATH)
export CAUSEWAY_VENV ?= $(CURDIR)/.venv
export CAUSEWAY_MOTO ?= $(CAUSEWAY_VENV)/bin/moto_server

.PHONY: help tools setup build build-tests demo quick test test-unit test-e2e chaos test-backup-faults test-backup-mutants nightly-simulation nightly-parsers nightly-mutants package test-packages test-image compose-up compose-down check check-quick check-slow fmt lint doc tidy gen gen-check typos deny ansible-reference ansible-reference-check advisories test-infra test-infra-faults test-ansible lint-ansible lint-monitoring dashboards test-dashboards test-alert-mutants test-alerts diagram inputs bench-api bench-failover bench-backup clean-lab

help:           ## show this list
	@grep -E '^[a-z0-9-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 28

tools: setup
	@./scripts/setup check

setup:          ## install what a fresh Debian 12 lacks; takes a second when nothing is missing
	@./scripts/setup

build: setup    ## build every program
	cargo build --workspace --bins

build-tests: build  ## build every program and test
	cargo nextest run --workspace --profile ci --no-run

demo:           ## fail a zone, an agent and a region, and write a report
	@./scripts/setup demo
	@echo "building the programs, without failover-ctl's EC2 client: 4 to 10 minutes on 2 cores, once"
	cargo build --workspace --bins --no-default-features
	$(BUILT)/lab demo --report-directory target/demo

quick:          ## unit tests without servers, simulation and Python, under 10 s when built
	cargo nextest run --workspace --lib --bins --profile quick

test: setup test-unit test-e2e  ## all tests that a change must pass
	python3 compose/tests --where-possible

test-unit:      ## decisions, simulation, and each program alone
	cargo build --workspace --bins
	cargo nextest run --workspace --profile ci --test-threads $$((2 * $$(nproc)))
	cargo test --workspace --doc --quiet

test-e2e:       ## the whole platform, two scenarios at a time
	cargo build --workspace --bins
	cargo nextest run --workspace --profile e2e

chaos: build    ## histories of random faults, each checked; SEEDS=50, and SEED=1 to run them again
	$(BUILT)/lab chaos $(if $(SEED),--seed $(SEED)) --seeds $(or $(SEEDS),10) --report-directory target/chaos

test-backup-faults: build  ## histories of backups whose buckets fail, each row compared; HISTORIES=200, and SEED=1 to run them again
	$(BUILT)/lab backup-faults $(if $(SEED),--seed $(SEED)) --histories $(or $(HISTORIES),10) --report-directory target/backup-faults

test-backup-mutants:  ## mutation testing of backup-agent with known faults
	scripts/backup-mutants

nightly-simulation: setup  ## simulation with fresh seeds; SEEDS=200000, and FIRST_SEED=1 to reproduce
	first=$(or $(FIRST_SEED),$$(date +%s)000000); echo "seeds from $$first"; \
	CAUSEWAY_FIRST_SEED=$$first CAUSEWAY_SEEDS=$(or $(SEEDS),200000) cargo nextest run --workspace --profile simulation \
		any_faults_then_one_node_writes

nightly-parsers: setup  ## damaged input for each parser; CASES=1000000
	PROPTEST_CASES=$(or $(CASES),1000000) cargo nextest run --workspace --profile simulation --ignore-default-filter \
		-E 'test(/(damaged|arbitrary)_.*_then_no_panic$$/)'

nightly-mutants: setup  ## mutation testing of the decisions, one eighth a day; SHARD=0/8
	command -v cargo-mutants >/dev/null || cargo install --quiet --locked cargo-mutants@27.1.0
	cargo mutants --package causeway-core --test-tool nextest --output $(TARGET) \
		--shard $(or $(SHARD),$$(($$(date +%s) / 86400 % 8))/8) \
		$(foreach part,agent failover guard lease rejoin,--file 'causeway-core/src/$(part).rs' --file 'causeway-core/src/$(part)/**')

package:        ## Debian packages and their checksums, in target/package; PROFILE=dev for the tests' programs
	@./scripts/setup package
	scripts/package --profile $(or $(PROFILE),release) $(if $(VERSION),--version $(VERSION))

test-packages:  ## install the packages on bare Debian 12 hosts with systemd, in a container engine
	@./scripts/setup package
	cargo build --workspace --bins
	python3 packages/tests $(if $(WHERE_POSSIBLE),--where-possible)

test-image:     ## image of the API and docker-compose.yml, in a container engine
	python3 compose/tests

test-infra:     ## Terraform, policies, chart, image and pipelines, without an account
	@./scripts/setup infra
	target/infra-tests/venv/bin/python infra-tests/check.py $(if $(WHERE_POSSIBLE),--where-possible)

test-infra-faults:  ## mutation testing of the infrastructure's checks; SAMPLE=10 SEED=3, FROM=80, or ONLY="canary pooler"
	@./scripts/setup infra
	target/infra-tests/venv/bin/python infra-tests/faults.py $(if $(FROM),--from $(FROM)) $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED)) $(ONLY)

test-ansible: setup  ## playbooks on systemd hosts in containers, with a table; SAMPLE=1 for ten minutes, ONLY="site kills" for steps, KILLS=20
	@./scripts/setup ansible
	cargo build --workspace --bins
	$(MAKE) package PROFILE=dev
	target/ansible/bin/python ansible/tests/run.py $(if $(SAMPLE),--sample) $(if $(WHERE_POSSIBLE),--where-possible) \
		$(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED)) $(foreach step,$(ONLY),--only $(step))

lint-ansible:   ## ansible-lint at the production profile and yamllint, without skips; unit tests of filters and modules
	@./scripts/setup ansible
	cd ansible && PATH="$(CURDIR)/target/ansible/bin:$$PATH" && ansible-lint --offline --strict && yamllint --strict .
	target/ansible/bin/python -m unittest discover ansible/tests/unit

lint-monitoring:  ## rules, routes, metrics, runbooks and dashboards of monitoring/, and the tests of rules
	@./scripts/setup monitoring
	target/monitoring/venv/bin/python monitoring/check
	target/monitoring/venv/bin/python -m unittest discover --quiet monitoring/check/tests
	target/monitoring/venv/bin/python -m unittest discover --quiet monitoring/dashboards/tests

dashboards:     ## write the dashboards for Grafana and Perses into target/dashboards; RUNBOOKS=https://… for their links
	@./scripts/setup monitoring
	target/monitoring/venv/bin/python monitoring/dashboards/generate $(if $(RUNBOOKS),--runbooks $(RUNBOOKS))

test-alert-mutants:  ## mutation testing of the alerting rules; ONLY="NoPrimary" for some
	@./scripts/setup monitoring
	target/monitoring/venv/bin/python monitoring/mutants $(if $(ONLY),--only $(ONLY))

test-dashboards: setup  ## draw every panel from a drill in the lab, in headless Chromium; PICTURES=docs/dashboards to keep the pictures
	@./scripts/setup alerts
	@./scripts/setup dashboards
	cargo build --workspace --bins
	/usr/bin/python3 monitoring/dashboards/tests/run.py $(if $(PICTURES),--pictures $(PICTURES)) $(if $(NUMBER),--number $(NUMBER))

test-alerts: setup  ## alerts that fire for real in the lab, with a table; SAMPLE=1 for three minutes, ONLY=TlsExpiry, QUIET=60 minutes of load
	@./scripts/setup alerts
	cargo build --workspace --bins
	/usr/bin/python3 -m unittest discover monitoring/tests
	/usr/bin/python3 monitoring/tests/run.py $(if $(SAMPLE),--sample) $(if $(QUIET),--quiet $(QUIET)) $(if $(NUMBER),--number $(NUMBER)) \
		$(foreach alert,$(ONLY),--only $(alert))

diagram:        ## draw docs/architecture.svg
	scripts/diagram

inputs:         ## write the tables of docs/reference/infrastructure.md
	scripts/inputs

ansible-reference:  ## write docs/reference/ansible from the roles
	$(CAUSEWAY_VENV)/bin/python scripts/ansible-reference

ansible-reference-check:
	$(CAUSEWAY_VENV)/bin/python scripts/ansible-reference --check

compose-up:     ## the API on this machine with PostgreSQL and Redis; COMPOSE_PROFILES=standby adds a standby
	DOCKER_BUILDKIT=1 COMPOSE_DOCKER_CLI_BUILD=1 $(COMPOSE) up --detach --build

compose-down:   ## stop it; data is kept, unless VOLUMES=--volumes
	COMPOSE_PROFILES=standby $(COMPOSE) down $(VOLUMES)

check: check-quick check-slow  ## formatting, lints, documentation, repository rules, alerting rules, spelling, dependencies

check-quick: tools fmt tidy gen-check ansible-reference-check typos deny

check-slow: tools lint doc lint-monitoring

fmt:            ## formatting
	cargo fmt --all --check

lint:           ## clippy, with warnings as errors
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --workspace --bins --no-default-features -- -D warnings

doc:            ## rustdoc, with warnings as errors
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --quiet

tidy:           ## repository-wide rules
	cargo run --quiet -p xtask -- tidy

gen:            ## write docs/reference/{cli,settings}-*.md, metrics.md and exit-codes.md, and man pages and completions into target/reference
	cargo run --quiet -p xtask -- gen

gen-check:
	cargo run --quiet -p xtask -- gen --check

typos:          ## spelling
	.venv/bin/typos

deny:           ## licences, banned crates and sources of dependencies, without the network
	cargo deny --offline --log-level error check bans licenses sources

advisories:     ## known vulnerabilities of dependencies, from a database that is downloaded
	@./scripts/setup check
	cargo deny check advisories

bench-api: GO = GO111MODULE=off GOPATH=$(CURDIR)/target/bench-api/gopath/usr/share/gocode target/bench-api/go/bin/go
bench-api:      ## benchmark the API against services in Go and Python; QUICK=1 for a sample
	@./scripts/setup bench
	cargo build --release -p api
	$(GO) build -o target/bench-api/hello-go ./bench/api/go
	$(GO) build -o target/bench-api/openloop ./bench/api/go/openloop
	python3 -m bench.api $(if $(QUICK),--quick) --api $(TARGET)/release/api \
		--go target/bench-api/hello-go --openloop target/bench-api/openloop \
		--versions target/bench-api/versions --venv target/bench-api/venv --report target/bench-api

bench-failover: ## benchmark failovers against Patroni, and idle nodes; QUICK=1 for one of each
	@./scripts/setup bench-failover
	cargo build --release --workspace --bins
	/usr/bin/python3 -m bench.failover $(if $(QUICK),--quick) --lab $(TARGET)/release/lab \
		--programs $(TARGET)/release --report target/bench-failover

bench-backup:   ## benchmark backups, restores and WAL against pgBackRest; QUICK=1 for a sample
	@./scripts/setup bench-backup
	cargo build --release --workspace --bin lab --bin backup-agent
	/usr/bin/python3 -m bench.backup $(if $(QUICK),--quick) --lab $(TARGET)/release/lab \
		--agent $(TARGET)/release/backup-agent --report target/bench-backup

clean-lab: build  ## stop a lab that was left running
	$(BUILT)/lab down
