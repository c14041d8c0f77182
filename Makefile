# What a person types. `make demo` and `make test` do all of the set-up that they need.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Where cargo puts what it builds.
TARGET := $(or $(CARGO_TARGET_DIR),target)
BUILT := $(TARGET)/debug

# Compose, as a plugin or by itself.
COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

# What starts a run by itself may leave it out.
export HOME ?= $(shell echo ~)
export PATH := $(HOME)/.local/bin:$(HOME)/.cargo/bin:$(PATH)
export CAUSEWAY_VENV ?= $(CURDIR)/.venv
export CAUSEWAY_MOTO ?= $(CAUSEWAY_VENV)/bin/moto_server

.PHONY: help tools setup build demo quick test test-unit test-e2e chaos test-backup-faults test-backup-mutants nightly-simulation nightly-parsers nightly-mutants test-image compose-up compose-down check fmt lint doc tidy gen gen-check typos deny advisories test-infra test-infra-faults diagram inputs bench-api bench-failover bench-backup clean-lab

help:           ## show this list
	@grep -E '^[a-z0-9-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 26

tools: setup
	@./scripts/setup check

setup:          ## install what a fresh Debian 12 lacks; a moment when nothing is missing
	@./scripts/setup

build: setup    ## build every program
	cargo build --workspace --bins

demo:           ## lose a zone, an agent and a region, and draw what happened
	@./scripts/setup demo
	@echo "building the programs, without failover-ctl's EC2 client: 6 minutes or so on 2 cores, once"
	cargo build --workspace --bins --no-default-features
	$(BUILT)/lab demo --report-directory target/demo

quick:          ## unit tests without servers, simulation and Python: the inner loop, 10 s when built
	cargo nextest run --workspace --lib --bins --profile quick

test: setup test-unit test-e2e  ## every test that a change has to pass
	python3 compose/tests --where-possible

test-unit:      ## decisions, simulation, and each program by itself
	cargo build --workspace --bins
	cargo nextest run --workspace --profile ci
	cargo test --workspace --doc --quiet

test-e2e:       ## the whole platform, two stories at a time
	cargo build --workspace --bins
	cargo nextest run --workspace --profile e2e

chaos: build    ## histories of random faults, each judged; SEEDS=50, and SEED=1 to play them again
	$(BUILT)/lab chaos $(if $(SEED),--seed $(SEED)) --seeds $(or $(SEEDS),10) --report-directory target/chaos

test-backup-faults: build  ## histories of backups whose buckets fail, each row compared; HISTORIES=200, and SEED=1 to play them again
	$(BUILT)/lab backup-faults $(if $(SEED),--seed $(SEED)) --histories $(or $(HISTORIES),10) --report-directory target/backup-faults

test-backup-mutants:  ## plant known faults in a copy of backup-agent, and show what catches each
	scripts/backup-mutants

nightly-simulation: setup  ## fresh seeds of the simulation; SEEDS=200000, and FIRST_SEED=1 to choose where they begin
	first=$(or $(FIRST_SEED),$$(date +%s)000000); echo "seeds from $$first"; \
	CAUSEWAY_FIRST_SEED=$$first CAUSEWAY_SEEDS=$(or $(SEEDS),200000) cargo nextest run --workspace --profile simulation \
		whatever_goes_wrong_one_node_writes

nightly-parsers: setup  ## damaged input for each parser of stored bytes; CASES=1000000
	PROPTEST_CASES=$(or $(CASES),1000000) cargo nextest run --workspace --profile simulation --ignore-default-filter \
		-E 'test(/(damaged|arbitrary)_.*_then_no_panic$$/)'

nightly-mutants: setup  ## mutants of the decisions that no test catches, an eighth of them each night; SHARD=0/8
	command -v cargo-mutants >/dev/null || cargo install --quiet --locked cargo-mutants@27.1.0
	cargo mutants --package causeway-core --test-tool nextest --output $(TARGET) \
		--shard $(or $(SHARD),$$(($$(date +%s) / 86400 % 8))/8) \
		$(foreach part,agent failover guard lease rejoin,--file 'causeway-core/src/$(part).rs' --file 'causeway-core/src/$(part)/**')

test-image:     ## the image of the API and docker-compose.yml, in a real engine (which root may have installed)
	python3 compose/tests

test-infra:     ## Terraform, policies, chart, image and pipelines, without an account
	@./scripts/setup infra
	target/infra-tests/venv/bin/python infra-tests/check.py $(if $(WHERE_POSSIBLE),--where-possible)

test-infra-faults:  ## plant a fault of each kind in a copy, and show that a check catches it
	@./scripts/setup infra
	target/infra-tests/venv/bin/python infra-tests/faults.py

diagram:        ## draw docs/architecture.svg anew
	scripts/diagram

inputs:         ## write the tables of docs/reference/infrastructure.md anew
	scripts/inputs

compose-up:     ## the API on this machine with PostgreSQL and Redis; COMPOSE_PROFILES=standby adds a standby
	DOCKER_BUILDKIT=1 COMPOSE_DOCKER_CLI_BUILD=1 $(COMPOSE) up --detach --build

compose-down:   ## stop it; what is stored stays, unless VOLUMES=--volumes
	COMPOSE_PROFILES=standby $(COMPOSE) down $(VOLUMES)

check: tools fmt lint doc tidy gen-check typos deny  ## formatting, lints, documentation, repository rules, spelling, dependencies

fmt:            ## formatting
	cargo fmt --all --check

lint:           ## clippy, with warnings as errors
	cargo clippy --workspace --all-targets -- -D warnings

doc:            ## documentation builds, and its links resolve
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --quiet

tidy:           ## the rules that no linter knows
	cargo run --quiet -p xtask -- tidy

gen:            ## write docs/reference/cli-*.md, and man pages and completions into target/reference
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
bench-api:      ## the api beside services in Go and Python, with goals; QUICK=1 for a sample
	@./scripts/setup bench
	cargo build --release -p api
	$(GO) build -o target/bench-api/hello-go ./bench/api/go
	$(GO) build -o target/bench-api/openloop ./bench/api/go/openloop
	python3 -m bench.api $(if $(QUICK),--quick) --api $(TARGET)/release/api \
		--go target/bench-api/hello-go --openloop target/bench-api/openloop \
		--versions target/bench-api/versions --venv target/bench-api/venv --report target/bench-api

bench-failover: ## failovers beside Patroni's, and what an idle node costs; QUICK=1 for one of each
	@./scripts/setup bench-failover
	cargo build --release --workspace --bins
	/usr/bin/python3 -m bench.failover $(if $(QUICK),--quick) --lab $(TARGET)/release/lab \
		--programs $(TARGET)/release --report target/bench-failover

bench-backup:   ## backups, restores and WAL beside pgBackRest's; QUICK=1 for a sample
	@./scripts/setup bench-backup
	cargo build --release --workspace --bin lab --bin backup-agent
	/usr/bin/python3 -m bench.backup $(if $(QUICK),--quick) --lab $(TARGET)/release/lab \
		--agent $(TARGET)/release/backup-agent --report target/bench-backup

clean-lab: build  ## end a lab that was left running
	$(BUILT)/lab down
