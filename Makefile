# Targets are one line each; what they do lives in sandbox/ (see sandbox/README.md) and in the playbooks.
ROOT := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
CACHE := $(or $(LLMD_SANDBOX_CACHE),/var/cache/llmd-gke)
RUN := cd $(ROOT) && PATH="$(CACHE)/venv/ansible/bin:$$PATH"
ARGS ?=
# Two files at a time, the long ones first: a sandbox test mostly waits.
SIDE_BY_SIDE := -n 2 --dist loadfile --no-loadscope-reorder
UP ?=
PATTERN ?= 1
LEFTOVERS := .ansible .mypy_cache .pytest_cache .ruff_cache collections/ansible_collections artifacts build dist *.tar.gz

.DEFAULT_GOAL := help
.PHONY: help demo test test-long unit contract sandbox-test lint molecule coverage mutation build docs permissions bench kill-matrix sandbox up down \
	clean distclean tools environment gates
.NOTPARALLEL:

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## /\1\t/p' $(ROOT)/Makefile | expand -t 16

demo: sandbox ## the whole job on this machine: sandbox up, then playbooks/pattern1.yml (PATTERN=2 to 5, ARGS="..." for ansible-playbook)
	@$(RUN) ansible-playbook playbooks/pattern$(PATTERN).yml $(ARGS)

test: tools gates ## sandbox (root), contract and unit tests in one pytest run, but the long ones (ARGS="..." for pytest)
	@$(RUN) python -m pytest $(SIDE_BY_SIDE) -m "not long" tests/sandbox tests/contract tests/unit $(ARGS)

test-long: tools gates ## moves between patterns under load, a hardened fleet by a caller with the custom role alone
	@$(RUN) python -m pytest $(SIDE_BY_SIDE) -m long tests/sandbox $(ARGS)

unit: environment ## pure logic, no root needed
	@$(RUN) python -m pytest tests/unit $(ARGS)

contract: environment ## what we send and read against Google's and upstream's recorded shapes
	@$(RUN) python -m pytest tests/contract $(ARGS)

sandbox-test: tools gates ## roles and playbooks on the sandbox
	@$(RUN) python -m pytest tests/sandbox $(ARGS)

lint: gates ## every check that needs no sandbox; what passed on the same content is not run again (ARGS="--fresh")
	@$(RUN) PYTHONPATH=$(ROOT) python -P -m gates lint $(ARGS)

molecule: tools gates ## every molecule scenario on a sandbox of its own (ARGS="verify pause" for some)
	@$(RUN) PYTHONPATH=$(ROOT) python -P -m gates molecule $(ARGS)

coverage: gates ## lines and branches of the library that unit and contract tests run
	@$(RUN) PYTHONPATH=$(ROOT) python -P -m gates coverage $(ARGS)

mutation: gates ## flip every condition of the pure predicates: the tests must notice (ARGS="--only conditions")
	@$(RUN) PYTHONPATH=$(ROOT) python -P -m gates mutation $(ARGS)

build: gates ## dist/llmd-gke-VERSION.tar.gz, as Galaxy takes it
	@$(RUN) PYTHONPATH=$(ROOT) python -P -m gates build $(ARGS)

docs: gates ## dist/site: guides, modules, plugins and roles as a site (ARGS="--output FOLDER")
	@$(RUN) PYTHONPATH=$(ROOT) python -P -m gates docs $(ARGS)

permissions: tools gates ## docs/iam-role.yaml and what the preflight asks for, from recorded requests
	@$(RUN) PYTHONPATH=$(ROOT) python -P -m gates permissions

bench: tools ## figures of this machine; never fails on time
	@$(RUN) python tests/bench/bench.py $(ARGS) && $(RUN) python tests/bench/life.py && $(RUN) python tests/bench/google_half.py && $(RUN) python tests/bench/client_accuracy.py

kill-matrix: tools ## SIGKILL of pattern1.yml at every stage and wait, then the same command (ARGS=--chain: quicker)
	@$(RUN) python tests/bench/kill_matrix.py $(ARGS)

sandbox: ## sandbox up: build what is missing, start the Google APIs (UP="--speed 0")
	@$(ROOT)/sandbox/sandbox up $(UP)

up: sandbox # the same

down: ## take the sandbox away
	@$(ROOT)/sandbox/sandbox down

clean: down ## take the sandbox away, remove what runs left in this folder (built tools stay)
	@cd $(ROOT) && rm -rf $(LEFTOVERS) && find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

distclean: clean ## also remove the built tools and environments
	@cd $(ROOT) && PYTHONDONTWRITEBYTECODE=1 python3 -m sandbox.toolchain remove

tools: ## build what is missing: Go tools, Debian packages, Python environments, images, charts
	@cd $(ROOT) && ./sandbox/sandbox tools --only standard

environment: # the Python environment with Ansible, test and lint tools
	@cd $(ROOT) && ./sandbox/sandbox tools --only ansible

gates: # what lint, coverage, mutation and build need beside it
	@cd $(ROOT) && ./sandbox/sandbox tools --only ansible,gates
