# `make demo` and `make test` start from nothing: each installs what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
SERVICES := PYTHON=$(BIN)/python scripts/services.sh
# Extra options for pytest: make test PYTEST_FLAGS="-x -k registry"
PYTEST_FLAGS ?=

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: install
install: $(VENV)/installed ## make .venv with the library, both commands and the development tools

$(VENV)/installed: pyproject.toml scripts/make_venv.sh
	scripts/make_venv.sh $(VENV) 3.11
	@echo "install: pip install -e '.[dev]'" >&2
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@

.PHONY: demo
demo: services ## build examples/hello with a real buildkitd and look at the result
	@eval "$$($(SERVICES) env)"; PATH="$(CURDIR)/$(BIN):$$PATH" scripts/demo.sh

.PHONY: test
test: check integration ## every test: check, then integration against real services

.PHONY: check
check: install ## formatting, lint, types, import direction, generated code, unit and property tests
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/gen_protos.sh --check
	$(BIN)/python scripts/gen_docs.py --check
	$(BIN)/pytest -n 2 tests/unit tests/property $(PYTEST_FLAGS)

.PHONY: unit
unit: install ## unit and property tests alone
	$(BIN)/pytest -n 2 tests/unit tests/property $(PYTEST_FLAGS)

.PHONY: integration
integration: services ## tests against a real buildkitd and real registries
	@eval "$$($(SERVICES) env)"; set -x; \
		$(BIN)/pytest -n 2 --dist loadfile tests/integration --ignore=tests/integration/compare --require-services $(PYTEST_FLAGS); \
		$(BIN)/pytest tests/integration/compare --require-services $(PYTEST_FLAGS)

# Older releases of buildkitd: the folders of scripts/buildkit. The newest is what `make test` uses.
COMPAT_RELEASES ?= v0.12.5 v0.22.0
# What has nothing to do with the daemon's release, or takes long to say the same again
COMPAT_LEAVES := $(addprefix --ignore=tests/integration/,test_protobuf_runtimes.py test_grpc_releases.py \
	test_store_postgres.py test_reference_patterns.py test_scale.py test_docker_engine.py test_oci_broken_transfers.py)

.PHONY: compat
compat: install ## the integration tests with older releases of buildkitd
	@failed=; for release in $(COMPAT_RELEASES); do \
		export BUILDKIT_RELEASE=$$release; \
		$(SERVICES) up; \
		( eval "$$($(SERVICES) env)"; result=0; set -x; \
		$(BIN)/pytest -n 2 --dist loadfile tests/integration --ignore=tests/integration/compare $(COMPAT_LEAVES) \
			--require-services $(PYTEST_FLAGS) || result=1; \
		$(BIN)/pytest tests/integration/compare --require-services $(PYTEST_FLAGS) || result=1; \
		exit $$result ) || failed="$$failed $$release"; \
		$(SERVICES) down; \
	done; \
	if [ -n "$$failed" ]; then echo "compat: tests fail with$$failed" >&2; exit 1; fi

.PHONY: services
services: install ## start buildkitd and the registries (the first time takes minutes)
	@$(SERVICES) up

.PHONY: bench
bench: services ## compare with the Go tools (make bench BENCH_FLAGS=--quick)
	@eval "$$($(SERVICES) env)"; $(BIN)/python benchmarks/run $(BENCH_FLAGS)

.PHONY: clean
clean: ## stop the services and delete what was made in this folder (not the services' cache)
	@scripts/services.sh down
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
