# Each target works alone on a fresh clone: it finds a Python, makes .venv and installs what it needs.
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow bench validation lint format venv clean
BIN := .venv/bin

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## real patient, serial SPECT to organ doses and a plan; writes demo_report/
	@sh scripts/make_venv.sh run
	@$(BIN)/pkmodel run snmmi_p004 --out demo_report
	@echo "the report is $(CURDIR)/demo_report/report.html"

test: lint ## everything that must pass: lint, types, tests, the built wheel
	@$(BIN)/pytest -q -n auto --dist loadfile

test-slow: venv ## the slow statistical tests
	@$(BIN)/pytest -q -m slow

bench: venv ## timings, against the peers that are installed: pip install -e '.[bench]'
	@$(BIN)/pytest -q -s -m bench

validation: venv ## write docs/validation.md and its figure: agents beside what was published of them
	@$(BIN)/pkmodel validate --page .

lint: venv ## ruff and mypy --strict
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

format: venv ## rewrite the code as ruff wants it, and clear the notebooks' outputs
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format
	@$(BIN)/python scripts/strip_notebooks.py

venv: ## .venv with everything for development
	@sh scripts/make_venv.sh dev

clean: ## remove .venv, caches, builds and the demo report
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist demo_report
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
