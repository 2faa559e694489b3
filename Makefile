# Everything a newcomer runs. `make` alone prints this list.
#
#   make demo     set up, then the main job: namespaces, real traffic, a table of what was stopped
#   make test     set up, then all tests (live queue tests need root; sudo is used where you are not root)
#   make build    set up and compile only
#   make bench    every figure of docs/performance.md again
#   make bench-architectures   why not threads? every earlier design, measured (docs/architectures.md, 10 minutes)
#   make clean    remove what a build made (the virtual environment too)

PYTHON ?= python3
VENV ?= .venv
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo) env PYTHONDONTWRITEBYTECODE=1
SETTINGS := $(foreach name,TIGERFOX_REQUIRE_LIVE TIGERFOX_CORPUS,$(if $($(name)),$(name)=$($(name))))# sudo clears them
SOURCES := setup.py pyproject.toml $(shell find tigerfox -name '*.pyx' -o -name '*.pxd')

.PHONY: help setup build engines demo test bench bench-architectures clean

help:
	@sed -n '3,9s/^#//p' Makefile

setup: $(VENV)/.packages

$(VENV)/.packages: scripts/setup.sh pyproject.toml
	scripts/setup.sh --python $(PYTHON) --venv $(VENV)
	@touch $@

build: $(VENV)/.built

$(VENV)/.built: $(VENV)/.packages $(SOURCES)
	@echo "compiling the data plane (about a minute)"
	PYTHONWARNINGS='ignore:Editable installation' $(VENV)/bin/python -m pip install --quiet --no-build-isolation --editable '.[test]'
	$(VENV)/bin/python -m compileall -q tigerfox
	@touch $@

engines: build
	$(VENV)/bin/python -m bench.architectures.build

demo: build
	$(AS_ROOT) $(VENV)/bin/tigerfox demo

test: build engines
	$(AS_ROOT) $(SETTINGS) $(VENV)/bin/python -m pytest -p no:cacheprovider $(PYTEST_ARGS)

bench: build
	$(AS_ROOT) $(VENV)/bin/python -m bench

bench-architectures: engines
	$(VENV)/bin/python -m pip install --quiet 'matplotlib>=3.7'
	-$(VENV)/bin/python -m pip install --quiet 'NetfilterQueue>=1.1' 'scapy>=2.5'
	$(AS_ROOT) $(VENV)/bin/python -m bench.architectures $(BENCH_ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .hypothesis .pytest_cache
	find tigerfox \( -name '*.so' -o -name '*.c' \) -delete
	find bench -name '*.so' -delete
	find . -name __pycache__ -prune -exec rm -rf {} +
