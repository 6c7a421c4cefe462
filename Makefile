# Two commands matter to a newcomer: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PACKAGES := mmdebstrap shellcheck busybox-static docker-registry

.DEFAULT_GOAL := help
.PHONY: help install system engine engine-stop demo test check lint type fmt golden bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed  ## make .venv and install the package into it, with its tools

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || sh .ci/need python3-venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev]'
	@touch $@

system:  ## install the system packages that the demo and the tests use
	@sh .ci/need $(PACKAGES)

engine: install  ## use the Docker Engine that answers, or set one up (Debian or Ubuntu, as root)
	@$(BIN)/dispatch engine start

engine-stop: install  ## stop the engine that `make engine` started, and only that one
	@$(BIN)/dispatch engine stop

demo: install system engine  ## build the images of a real pipeline and run it
	@$(BIN)/python tests/pipelines/demo.py

# Tests of servers wait more than they compute, and units share nothing: several files at a time. The rest
# needs the engine for itself; the units, which need none, run beside it.
SERVERS := tests/beaker tests/engine/test_stand_ins.py tests/engine/test_setups.py
UNITS := tests/unit tests/contract
test: install system engine  ## run the whole suite
	@$(BIN)/python -m pytest -n 4 --dist loadfile $(SERVERS)
	@said=$$(mktemp); nice $(BIN)/python -m pytest -n 2 --dist loadfile $(UNITS) >"$$said" 2>&1 & units=$$!; \
		$(BIN)/python -m pytest $(addprefix --ignore=,$(SERVERS) $(UNITS)); code=$$?; \
		wait $$units || code=$$?; cat "$$said"; rm -f "$$said"; exit $$code

check: install system lint type  ## everything that needs no engine: linters, types, rendered scripts

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	@scripts=$$(mktemp -d) && $(BIN)/python tests/golden/render_entrypoints.py $$scripts \
		&& shellcheck --shell=sh $$scripts/*.sh && echo "shellcheck: $$(ls $$scripts | wc -l) entrypoints" ; \
		code=$$?; rm -rf $$scripts; exit $$code
	shellcheck .ci/run .ci/need

type: install
	$(BIN)/mypy

fmt: install  ## format the code
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

golden: install  ## write the golden files again; review them as a diff
	$(BIN)/python tests/golden/render_entrypoints.py tests/golden/entrypoint
	$(BIN)/python tests/golden/render_dockerfiles.py tests/golden/dockerfile
	$(BIN)/python tests/golden/render_progress.py tests/golden/progress

bench: install system engine  ## measure, and print the tables
	@$(BIN)/python tests/bench

clean:  ## remove what the targets made in this folder (not the engine, not its images)
	rm -rf $(VENV) .demo dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
