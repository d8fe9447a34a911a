# Everything a developer types. `make help` lists it; the README tells the story.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Container images like to set it. Without its caches each process compiles a second's worth of modules when it
# starts, and each test process ten seconds' worth of tests.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
READY := $(VENV)/.ready
SOURCES := workflows activities clusters worker api admin cli devcluster devstack tests $(wildcard bench)
# Told at the end of long runs: where their time goes.
SLOWEST := --durations=30 --durations-min=3
CORES := $(shell python3 -c 'import os; print(os.cpu_count() or 2)' 2>/dev/null || echo 2)
# Temporal's server and Kubernetes are written in Go: in tests memory is there and processors are scarce, so that they
# collect their garbage less often. It takes Kubernetes' API server a third of its time otherwise.
PYTEST := GOGC=400 $(BIN)/pytest
GARBAGE := GOGC=1000 GOMEMLIMIT=2GiB
# Some tests only wait: there are more of them at a time than cores.
UNIT := $(PYTEST) -q $(SLOWEST) -n $(shell expr 2 \* $(CORES)) --dist worksteal --ignore tests/e2e -m "not cluster"
# None of these waits, and each process more must collect them all. Nothing of tests/e2e is among them, and collecting
# test_schema.py makes its requests, eight seconds long in each process, before any mark is looked at.
FAST := PERDURE_EXAMPLES_ONE_OF=10 $(BIN)/pytest -q -n $(CORES) --dist worksteal \
	--ignore tests/e2e --ignore tests/api/test_schema.py \
	-m "not cluster and not postgres and not slow and not browser and not http"
# Nowhere else are tests on the cluster, and each process would take half a minute to collect the others.
ON_CLUSTER := tests/clusters tests/devcluster tests/e2e
# They share the cluster; each file has a stack and namespaces of its own. In the order of tests/conftest.py: first
# those that count seconds, which a machine that is too busy would lengthen, then the patient ones.
CLUSTER := $(PYTEST) -q $(SLOWEST) --dist loadfile --no-loadscope-reorder -n $(shell expr 3 \* $(CORES)) \
	-m "cluster and not alone"
ALONE := $(PYTEST) -q $(SLOWEST) -m "cluster and alone"

.PHONY: setup packages dev dev-up dev-down demo test test-fast fuzz e2e bench lint types fmt openapi histories audit \
	lock clean help cluster browser s3 csi

##@ Start here
demo: setup ## The main job end to end on a real Kubernetes; first run up to 15 min, later ones under a minute
	@$(PY) -m devstack demo

test: setup ## Every test, those on the real cluster too
	@$(MAKE) browser
	@$(MAKE) s3
	$(UNIT)
	@$(MAKE) cluster
	@$(MAKE) csi
	$(CLUSTER) $(ON_CLUSTER)
	$(ALONE) tests/e2e

help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z0-9-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ The development stack
setup: packages $(READY) ## System packages, virtual environment and dependencies; quick when nothing changed

dev: setup ## Start the stack and follow its logs; Ctrl-C stops everything
	@$(PY) -m devstack dev

dev-up: setup ## Start whatever of the stack is missing, in the background
	@$(PY) -m devstack up

dev-down: ## Stop the stack and the cluster, and leave nothing behind
	@if [ -x $(PY) ]; then $(PY) -m devstack down; else echo "Nothing is set up here."; fi

##@ Tests and checks
test-fast: setup ## Without cluster, servers, HTTP, browser, slow ones; a tenth of examples and tables
	$(FAST)

fuzz: setup ## Every route against openapi.json with 500 requests each by property (FUZZ=... for another number)
	PERDURE_FUZZ_EXAMPLES=$(or $(FUZZ),500) $(BIN)/pytest -q --timeout 3600 tests/api/test_schema.py

e2e: setup cluster ## The end-to-end tests on the real cluster
	$(CLUSTER) tests/e2e

bench: setup cluster ## Measure; prints JSON and writes docs/benchmarks.md; ONLY="snapshot facts": these parts
	$(PY) -m bench --write $(addprefix --only ,$(ONLY))

lint: setup ## Style, format and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: setup ## mypy, strict
	$(BIN)/mypy

fmt: setup ## Format, and mend what can be mended by itself
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .

audit: setup ## Known vulnerabilities of the locked dependencies
	$(BIN)/pip-audit --disable-pip --require-hashes -r requirements.lock

##@ Generated files
openapi: setup ## Write openapi.json from the routes
	$(PY) -m api.openapi

histories: setup ## Record the workflow histories that the replay tests read
	$(PY) -m tests.replay.record

lock: setup ## Resolve requirements.lock anew; UPGRADE=1 takes the newest versions
	$(BIN)/uv pip compile pyproject.toml --extra dev $(LOCK_FLAGS) $(if $(UPGRADE),--upgrade) -o requirements.lock
	grep '^uv==' requirements.lock | sed 's/ .*//' \
		| $(BIN)/uv pip compile - $(LOCK_FLAGS) --no-annotate -o requirements-bootstrap.lock
	@if grep -nE '://|--(extra-)?index-url|--find-links|@ ' requirements.lock requirements-bootstrap.lock; then \
		echo "A lock file names a host." >&2; exit 1; fi

clean: dev-down ## Remove the virtual environment and everything generated (the cache in ~/.cache stays)
	rm -rf $(VENV) .dev .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

LOCK_FLAGS := --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-emit-index-url --no-emit-find-links

# What the embedded node needs of the system: only where it is what `python -m devcluster up` would choose.
packages:
	@if [ "$$(uname -s)/$$(id -u)" = Linux/0 ] && [ -z "$${PERDURE_KUBECONFIG:-}" ] \
		&& ! docker info >/dev/null 2>&1 && ! podman info >/dev/null 2>&1; then sh devcluster/packages.sh; fi

$(READY): requirements.lock requirements-bootstrap.lock pyproject.toml devstack/setup.sh
	@sh devstack/setup.sh
	@touch $@

# What only tests need: a command that gets it, and which tests are skipped without, with the reason. In CI that would
# hide that they never ran.
define wanted
	@if ! { $(1); }; then \
		if [ -n "$${CI:-}" ]; then exit 1; fi; \
		echo "$(2) are skipped."; fi
endef

browser:
	$(call wanted,sh tests/browser-packages.sh,No Chromium can be had here: the tests of pages)

s3: setup
	$(call wanted,$(PY) -m devstack s3 >/dev/null,No S3 server can be built here: the tests of buckets)

csi: setup
	$(call wanted,$(PY) -m devstack csi >/dev/null,No snapshot controllers can be built here: the tests of snapshots by a storage)

cluster:
	$(call wanted,$(GARBAGE) $(PY) -m devcluster up && $(PY) -m devcluster images,No cluster can be had here: the tests that need one)
