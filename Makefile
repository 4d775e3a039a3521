# The doors for people who work on Aurora. Each target is a sentence; `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help setup lock up test check bench migration clean

BIN := .venv/bin

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: .venv/runtime.stamp ## run Aurora here, with a demo organization [ARGS="--port 8001"]
	@exec $(BIN)/aurora up $(ARGS)

test: ## check, then every test in a real PostgreSQL and a real browser [ARGS="-k gate"]
	@scripts/debian-packages
	@scripts/supabase-cli
	@$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest -n 3 $(ARGS) # three: journeys wait more than they work

check: .venv/dev.stamp ## the fast half of test: style, types, floors, house rules, and SQL
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --config .importlinter
	$(BIN)/python -m pytest tests/rules tests/db/test_catalogue.py tests/db/test_sql_quality.py -q

bench: .venv/dev.stamp ## run every benchmark, or one, and say which goals are met [name=gate]
	@$(BIN)/python scripts/run_benchmarks.py $(name)

setup: .venv/dev.stamp ## make .venv with everything that developing needs

lock: .venv/dev.stamp ## write requirements/*.txt anew from pyproject.toml [ARGS=--upgrade]
	@scripts/lock $(ARGS)

migration: ## write the skeleton of a migration: make migration name=credit_notes
	@scripts/new-migration "$(name)"

clean: ## remove .venv, tools, caches, and builds; your data in AURORA_HOME stays
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than what it was made from, so a second `make up` installs nothing.
.venv/runtime.stamp: requirements/runtime.txt pyproject.toml
	@scripts/environment runtime

.venv/dev.stamp: requirements/dev.txt pyproject.toml
	@scripts/environment dev
