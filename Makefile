# Everything is made in .venv. PYTHON chooses what it is made with: `make run PYTHON=python3.12`.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --require-hashes
UV_COMPILE := $(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --custom-compile-command 'make lock'
SOURCES := gateway billing providers tenants
RUNTIME := $(VENV)/requirements.stamp
DEVELOPMENT := $(VENV)/requirements-dev.stamp
# `check --deploy` judges the settings of a real deployment: served over https, with a secret of its own.
DEPLOYED = PUBLIC_URL=https://bursar.example SECRET_KEY=$$($(PY) -c 'import secrets; print(secrets.token_urlsafe(64))')

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test chaos pictures lint format lock bench chromium

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: $(RUNTIME) ## Start the whole platform on http://127.0.0.1:5005 (HOST, PORT, WORKERS, DATA_DIR change it)
	@exec $(PY) manage.py run_platform

test: lint chromium ## Check the code, then run all tests against fresh private engines
	@$(PY) -m pytest -n auto --dist worksteal

chaos: $(DEVELOPMENT) ## Kill processes at random points under load for some minutes, and check the books after each
	@$(PY) -m pytest -m chaos -n 0 -q

pictures: $(DEVELOPMENT) chromium ## Take the documentation's pictures anew, walking through the admin in a browser
	@PICTURES=1 $(PY) -m pytest -n 0 -q tests/docs/test_walk_through.py

lint: $(DEVELOPMENT) ## Check style, types, the one-way rule, migrations and deployment settings
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy $(SOURCES)
	@$(VENV)/bin/lint-imports
	@$(PY) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	@$(DEPLOYED) $(PY) manage.py check --deploy --fail-level WARNING

format: $(DEVELOPMENT) ## Put the code into the house style
	@$(VENV)/bin/ruff check --fix-only .
	@$(VENV)/bin/ruff format .

lock: $(DEVELOPMENT) ## Pin all requirements anew, with hashes
	@$(UV_COMPILE) requirements.in -o requirements.txt
	@$(UV_COMPILE) requirements-dev.in -o requirements-dev.txt

bench: $(DEVELOPMENT) ## Measure CPU, latency and memory of the gateway, into docs/performance.md
	@exec $(PY) -m bench

# The browser tests drive Debian's own Chromium: root may install it, everybody else is told.
chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing chromium for the browser tests ..."; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null; } \
			|| echo "!! chromium could not be installed: THE BROWSER TESTS WILL NOT RUN"; \
	else \
		echo "!! No chromium on this machine: THE BROWSER TESTS WILL NOT RUN"; \
	fi

$(PY):
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found. Bursar needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $$($(PYTHON) --version) is too old. Bursar needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "error: no virtual environment (Debian: apt-get install python3-venv)" >&2; exit 1; }

$(RUNTIME): requirements.txt | $(PY)
	@echo "Installing what Bursar runs on (the first time this takes a minute) ..."
	@$(PIP) -r $<
	@touch $@

$(DEVELOPMENT): requirements-dev.txt $(RUNTIME)
	@echo "Installing what the tests and checks need ..."
	@$(PIP) -r $<
	@touch $@
