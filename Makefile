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
	$(BIN)/pytest -n 2 tests/unit tests/property $(PYTEST_FLAGS)

.PHONY: unit
unit: install ## unit and property tests alone
	$(BIN)/pytest -n 2 tests/unit tests/property $(PYTEST_FLAGS)

.PHONY: integration
integration: services ## tests against a real buildkitd and real registries
	@eval "$$($(SERVICES) env)"; set -x; $(BIN)/pytest tests/integration --require-services $(PYTEST_FLAGS)

.PHONY: services
services: install ## start buildkitd and the registries (the first time takes minutes)
	@$(SERVICES) up

.PHONY: bench
bench: services ## compare with buildctl (make bench BENCH_FLAGS=--quick)
	@eval "$$($(SERVICES) env)"; $(BIN)/python benchmarks/run $(BENCH_FLAGS)

.PHONY: clean
clean: ## stop the services and delete what was made in this folder (not the services' cache)
	@scripts/services.sh down
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
