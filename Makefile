# make demo: train a small model on this machine. make test: the whole suite. Everything goes into .venv and workspace/.
PYTHON ?= python3
VENV ?= .venv
PIP := $(VENV)/bin/pip --quiet --disable-pip-version-check
WORKERS ?= 3
# Options of pip for torch alone, such as --index-url ADDRESS. Without any, a machine without a GPU gets the CPU build.
TORCH_OPTIONS ?=
export JOBCTL_ROOT ?= $(CURDIR)/workspace

.PHONY: help demo test lint docs style golden clean

# What stands after ## is what make help prints.
help: ## print this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

# By hash, and without a resolver.
HASHED := install --no-warn-conflicts --no-deps --require-hashes
LOCKS := $(wildcard requirements/locked*.txt)

$(VENV)/.run: $(LOCKS) pyproject.toml
	@echo "installing into $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) $(HASHED) -r requirements/locked.txt
	@requirements/install-torch.sh $(VENV) $(TORCH_OPTIONS)
	@$(PIP) install --no-warn-conflicts --no-deps -e .
	@touch $@

$(VENV)/.test: $(VENV)/.run requirements/test.txt
	@$(PIP) install --no-warn-conflicts -r requirements/test.txt
	@touch $@

demo: $(VENV)/.run ## train a small model on this machine
	@$(VENV)/bin/jobctl submit prep --dataset sotu --tokenizer gpt2 --wait
	@$(VENV)/bin/jobctl submit --model qwen3_smoke --wait
	@echo "now: export JOBCTL_ROOT='$(JOBCTL_ROOT)' PATH='$(CURDIR)/$(VENV)/bin':\$$PATH"

test: $(VENV)/.test ## run all tests
	@$(VENV)/bin/pytest -n $(WORKERS) --dist loadgroup --durations=15

lint: $(VENV)/.test ## check style, types and which package imports which
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/ruff format --quiet --check .
	@$(VENV)/bin/mypy --no-error-summary
	@$(VENV)/bin/lint-imports --no-logo >/dev/null || $(VENV)/bin/lint-imports

docs: $(VENV)/.run ## write docs/cli.md from the commands
	@$(VENV)/bin/python -m jobctl.jobs.cli.reference >docs/cli.md

style: $(VENV)/.test ## measure names and air
	@$(VENV)/bin/python -m tests.style

golden: $(VENV)/.test ## write the expected scripts and manifests anew
	@JOBCTL_UPDATE_GOLDEN=1 $(VENV)/bin/pytest tests/jobs/test_golden.py tests/k8s/test_manifest.py -k golden

clean: ## remove .venv and workspace
	rm -rf $(VENV) workspace

-include docker/image.mk
