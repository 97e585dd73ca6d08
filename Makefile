# One virtual environment and one lock serve `run`, `test` and everything else: with the packages
# cached its set-up takes 17 s (2 cores). A second lock of only what runs would save 7 s of it, and
# the two would drift apart.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
READERS := $(VENV)/readers
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help run test lint wheel recording bench lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

run: $(READY) ## Set up, then index, label and report on the bundled recording
	@"$(BIN)/indexer" demo

# A file stays with one worker: what is dear in it, as a chain with contracts, is made once.
test: lint $(READERS) ## Set up, check the style and the types, run the tests
	"$(BIN)/python" -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(READY) ## Check style, format and types
	"$(BIN)/ruff" check
	"$(BIN)/ruff" format --check
	"$(BIN)/mypy"

wheel: $(READY) ## Build dist/*.whl
	"$(BIN)/python" -m hatchling build -t wheel

recording: $(READY) ## Make the bundled recording again from its seed
	"$(BIN)/python" -m tests.simulator recording indexer/recording

bench: $(READY) ## Measure the speed of indexing beside its yardsticks
	"$(BIN)/python" -m benchmarks.hyperliquid
	"$(BIN)/python" -m benchmarks.chains
	"$(BIN)/python" -m benchmarks.values
	"$(BIN)/python" -m benchmarks.totals
	"$(BIN)/python" -m benchmarks.report
	"$(BIN)/python" -m benchmarks.labels
	"$(BIN)/python" -m benchmarks.exports
	"$(BIN)/python" -m benchmarks.alerts

COMPILE = "$(BIN)/uv" pip compile --quiet --universal --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-header --python-version 3.11 $(if $(UPGRADE),--upgrade)

# uv is no part of the lock: only this target needs it. Pins that still fit stay as they are.
lock: $(READY) ## Write both locks from pyproject.toml; UPGRADE=1 for the newest versions
	$(PIP) install --quiet uv
	$(COMPILE) --extra dev pyproject.toml -o requirements.lock
	$(COMPILE) --constraint requirements.lock --group readers -o requirements-readers.lock

clean: ## Stop the embedded server, remove what make made; the database stays
	-@if [ -x "$(BIN)/indexer" ]; then "$(BIN)/indexer" db stop; fi
	rm -rf "$(VENV)" build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(READY): requirements.lock pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is missing or older than Python 3.11: make PYTHON=python3.12 ..." >&2; \
		exit 1; }
	@"$(PYTHON)" -m venv "$(VENV)" || { \
		echo "on Debian and Ubuntu: apt install python3-venv" >&2; rm -rf "$(VENV)"; exit 1; }
	@echo "installing the locked packages into $(VENV); the first time downloads about 90 MB"
	@$(PIP) install --quiet --require-hashes -r requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --no-index -e .
	@touch "$(READY)"

$(READERS): requirements-readers.lock $(READY)
	@$(PIP) install --quiet --require-hashes -r requirements-readers.lock
	@touch "$(READERS)"
