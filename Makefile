# 'make' prints what there is. Two commands are all that a new user needs: make demo, make test.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# Slicer's Python; also where pyenv keeps it
PYTHON312 ?= $(shell for p in python3.12 $(HOME)/.pyenv/versions/3.12*/bin/python3.12; do \
	$$p -c '' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN = $(VENV)/bin
BIN312 = .venv312/bin
OUT ?= demo-output
# threads that wait without spinning: tests start processes beside each other
export OMP_WAIT_POLICY = PASSIVE

INSTALL = -m pip install --quiet --disable-pip-version-check -c constraints.txt
PIP = $(BIN)/python $(INSTALL)

.PHONY: help demo test test-312 which-312 lint format coverage docs wheel benchmark clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-16s%s\n", $$1, $$2}'

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed; name it with make PYTHON=..."; exit 2; }
	$(PYTHON) -m venv $(VENV)

# stamps: installed once, and again when the requirements change
$(VENV)/.demo: $(VENV)/bin/python pyproject.toml setup.py constraints.txt
	$(PIP) -e '.[scene,dicom]'
	@touch $@

# instead of the extra 'dose': pydosert without the 447 MB that it asks for and does not use here, see pyproject.toml
$(VENV)/.test: $(VENV)/.demo
	$(PIP) -e '.[scene,dicom,training,test]' pydantic-settings
	$(PIP) --no-deps pydosert
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	$(PIP) -e '.[lint]'
	@touch $@

$(VENV)/.docs: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[docs]'
	@touch $@

# with CASE=folder your own mr (and ct, if it is there); with JOB=propagate a digital pelvis and its next day
demo: $(VENV)/.demo ## the model on a digital limb, with report and scene; CASE=folder for your own MR, JOB=propagate
	$(BIN)/python -m rtuncertainty demo --output $(OUT) --scene $(if $(JOB),--job $(JOB)) $(if $(CASE),--case $(CASE))

test: $(VENV)/.test ## all tests; ARGS='-k dvh' for some
	$(BIN)/python -m pytest $(ARGS)

# the processes that tests start are not measured: of them only what runs in the tests' own process counts
coverage: $(VENV)/.test ## all tests, and which part of each package they run
	$(BIN)/python -m coverage run -m pytest $(ARGS)
	@for p in RTUncertainty/rtuncertainty RTUncertainty/RTUncertaintyLib training; do \
	echo "coverage of $${p##*/}: $$($(BIN)/python -m coverage report --include="$$p/*" --format=total) %"; done
	@echo "coverage: $$($(BIN)/python -m coverage report --format=total) %"

# without torch, as Slicer is before its PyTorch extension has been asked for it; tests that need torch are skipped
.venv312/.test: pyproject.toml constraints.txt
	@test -n "$(PYTHON312)" || { echo "There is no Python 3.12; name it with make test-312 PYTHON312=..."; exit 2; }
	test -x $(BIN312)/python || $(PYTHON312) -m venv .venv312
	$(BIN312)/python $(INSTALL) slicer-core PySide6-Essentials SimpleITK scipy Jinja2 pillow pydicom highdicom pytest hypothesis coverage
	@touch $@

# coverage is cheap here: Python 3.12 has monitoring of its own
test-312: .venv312/.test ## the tests of Lib, scene and panels under Python 3.12, which is Slicer's
	PYTHONPATH=RTUncertainty:. COVERAGE_CORE=sysmon COVERAGE_FILE=.coverage.312 $(BIN312)/python -m coverage run \
		--source=RTUncertainty/RTUncertaintyLib -m pytest Testing/slicer Testing/gui $(ARGS)
	@echo "coverage of RTUncertaintyLib: $$(COVERAGE_FILE=.coverage.312 $(BIN312)/python -m coverage report --format=total) %"

which-312:
	@echo $(PYTHON312)

lint: $(VENV)/.lint ## ruff (lint and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet . || { echo "Run 'make format'."; exit 1; }
	$(BIN)/mypy

format: $(VENV)/.lint ## bring the code into the form that 'make lint' asks for
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format --quiet .

docs: $(VENV)/.docs ## the documentation with the Python reference, as a web site in site/
	$(BIN)/python -m mkdocs build --strict --quiet

wheel: $(VENV)/bin/python ## dist/*.whl, with the models and the training
	rm -rf build
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	rm -rf build
	@ls dist/*.whl

benchmark: $(VENV)/.test ## times and memory
	$(BIN)/python Testing/benchmarks/sampling.py
	$(BIN)/python Testing/benchmarks/stages.py
	$(BIN)/python Testing/benchmarks/memory.py
	$(BIN)/python Testing/benchmarks/volumetric.py
	$(BIN)/python Testing/benchmarks/gamma.py
	$(BIN)/python Testing/benchmarks/dose.py

clean: ## remove what make made
	rm -rf $(VENV) .venv312 demo-output site build dist *.egg-info RTUncertainty/*.egg-info .coverage .coverage.312
