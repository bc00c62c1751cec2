# Two commands: `make train` does all set-up and runs the main job, `make test` passes the tests.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
RUN = $(VENV)/.run-installed
DEV = $(VENV)/.dev-installed

.PHONY: train demo test test-fast test-long test-server bench fuzz audit sbom matrix browser team-server lint docs clean

train: $(RUN)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/mlflow run . -e train --env-manager local

demo: $(RUN)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/mlflow run . -e main --env-manager local

# Tests start processes and workers, which would all compile the same files.
test test-fast: export PYTHONDONTWRITEBYTECODE =

# One worker more than there are cores, each on one thread: they wait a third of their time.
test: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

# The loop of a contributor: no server, process, browser or training; see tests/order.py.
test-fast: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -p no:schemathesis \
		-m 'not slow and not long and not server'

test-long: $(DEV)
	$(BIN)/python -m pip install --quiet '.[ray]'
	$(BIN)/python -m pytest -m long

# A team's server by real processes, which needs what `make team-server` installs, and pages beside
# servers of other versions of MLflow, in environments that are kept in the user's cache.
test-server: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'server and not long' tests/server \
		tests/web/test_alone_access.py

# The benchmarks, and benchmarks/RESULTS.md. Best on a machine that does nothing else.
bench: $(DEV)
	$(BIN)/python -m pip install --quiet -e '.[bench]'
	$(BIN)/python -m benchmarks

# A million damaged inputs to everything that reads what others wrote; half an hour. What breaks is
# kept in finds/ and goes to tests/fuzz/finds.
fuzz: $(DEV)
	$(BIN)/python -m pip install --quiet -e '.[fuzz]'
	nice $(BIN)/python -W ignore tests/fuzz/run.py --total 1000000

# Known vulnerabilities of what is installed; see audit-ignored.toml.
audit: $(DEV)
	$(BIN)/python tests/audit.py

# The core of the tests with the oldest and the newest that we stand on; makes environments.
matrix: $(DEV)
	$(BIN)/python tests/matrix.py

# What is installed, in CycloneDX's form, in sbom.json.
sbom: $(DEV)
	$(BIN)/python -m cyclonedx_py environment --pyproject pyproject.toml --output-reproducible \
		--validate --output-file sbom.json $(BIN)/python

# A browser for the tests of the pages, where there is none; without one they are skipped.
browser:
	command -v chromium || command -v chromium-browser || command -v google-chrome || \
	( apt-get update -q && apt-get install -yq --no-install-recommends chromium fonts-dejavu-core )

# What the tests of a team's server start, where it is absent; the S3 store comes with Python.
team-server:
	{ ls /usr/lib/postgresql/*/bin/postgres && command -v rclone && command -v faketime; } || \
	( apt-get update -q && apt-get install -yq --no-install-recommends postgresql rclone faketime )

lint: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/structure.py
	$(BIN)/python tests/documented.py

# The site, in site/; warnings are errors, and nothing is fetched.
docs: $(DEV)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(RUN): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[train]'
	touch $@

$(DEV): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@ $(RUN)

clean:
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache
