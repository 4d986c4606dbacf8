# Two commands set everything up: `make demo` and `make test`.
# They find a Python of at least 3.12, make .venv beside this file, and install into it
# with uv where there is one and with pip where there is none.

VENV ?= .venv
BIN := $(VENV)/bin
OUTPUT ?= runs/demo

.PHONY: help demo study test validate bench lint format clean
.DEFAULT_GOAL := help

help:  ## Say what each target does
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# A pyenv shim may be on PATH and still refuse to run, so each candidate is asked to.
$(BIN)/python:
	@set -e; chosen=""; \
	for candidate in $(PYTHON) python3.13 python3.12 python3 $$(ls -d $$HOME/.pyenv/versions/*/bin/python3 2>/dev/null | sort -rV); do \
	  if "$$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; then chosen="$$candidate"; break; fi; \
	done; \
	if [ -z "$$chosen" ]; then \
	  if command -v uv >/dev/null 2>&1; then chosen=3.13; else \
	    echo "No Python of at least 3.12 was found. Install one (for example 'apt install python3.13 python3.13-venv'," >&2; \
	    echo "'brew install python@3.13' or 'pyenv install 3.13'), or name it: make PYTHON=/path/to/python3.13" >&2; exit 1; fi; \
	fi; \
	echo "Using Python: $$chosen"; \
	if command -v uv >/dev/null 2>&1; then uv venv --quiet --allow-existing --python "$$chosen" $(VENV); else "$$chosen" -m venv $(VENV); fi

define install
	@if command -v uv >/dev/null 2>&1; then VIRTUAL_ENV=$(VENV) uv pip install --constraint constraints.txt --editable '$(1)'; \
	else $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '$(1)'; fi
	@touch $@
endef

$(VENV)/.runtime: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing emergence-stats into $(VENV) (a few minutes the first time: PyTorch is large)"
	$(call install,.[fast])

$(VENV)/.development: $(VENV)/.runtime
	$(call install,.[dev])

$(VENV)/.benchmarks: $(VENV)/.development
	$(call install,.[bench])

demo: $(VENV)/.runtime  ## Simulate, train two seeds, analyse, and write runs/demo/report.html
	$(BIN)/emergence demo --output $(OUTPUT)

study: $(VENV)/.runtime  ## Do the three claims hold? Five seeds of seven arms, an hour and a quarter on two cores (PRESET=short: a quarter of an hour)
	$(BIN)/emergence reproduce --preset $(or $(PRESET),standard)

# Two workers with as many threads each as there are cores would wait for one another.
test: $(VENV)/.development lint  ## Lint, type-check and run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow"

lint: $(VENV)/.development  ## ruff (lint and format), mypy, and which package may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

format: $(VENV)/.development  ## Let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

validate: $(VENV)/.benchmarks  ## Longer statistical validation, recorded in benchmarks/results
	$(BIN)/emergence validate
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup -m slow
	$(BIN)/python -m benchmarks.accuracy.validate
	$(BIN)/python -m benchmarks.accuracy.classification
	$(BIN)/python -m benchmarks.accuracy.classification --default-noise
	$(BIN)/python -m benchmarks.accuracy.calibration
	$(BIN)/python -m benchmarks.accuracy.measured_calibration
	$(BIN)/python -m benchmarks.accuracy.noise_choice
	$(BIN)/python -m benchmarks.accuracy.populations
	$(BIN)/python -m benchmarks.accuracy.onsets
	$(BIN)/python -m benchmarks.accuracy.online
	$(BIN)/python -m benchmarks.science.turing
	$(BIN)/python -m benchmarks.science.pythia_onsets
	$(BIN)/python -m benchmarks.science.interventions --output runs/interventions
	$(BIN)/python -m benchmarks.accuracy.curvature
	$(BIN)/python -m benchmarks.accuracy.llc_accuracy $(if $(PEER_PYTHON),--peer-python $(PEER_PYTHON))
	$(BIN)/python -m benchmarks.accuracy.evidence_accuracy
	$(BIN)/python -m benchmarks.accuracy.descent_orders
	$(BIN)/python -m benchmarks.accuracy.llc_defaults
	$(BIN)/python -m benchmarks.accuracy.llc_singular
	$(BIN)/python -m benchmarks.accuracy.library_checkpoints
	$(BIN)/python -m benchmarks.science.superposition
	$(BIN)/python -m benchmarks.science.study --output runs/study-standard

bench: $(VENV)/.benchmarks  ## Speed against peers, recorded in benchmarks/results
	$(BIN)/python -m benchmarks.speed.physics_speed
	$(BIN)/python -m benchmarks.speed.training_speed
	$(BIN)/python -m benchmarks.speed.segmentation_speed
	$(BIN)/python -m benchmarks.speed.llc_speed $(if $(PEER_PYTHON),--peer-python $(PEER_PYTHON))
	$(BIN)/python -m benchmarks.speed.comparison_speed

clean:  ## Remove the environment and caches (runs/ is kept)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache *.egg-info
