# Two commands are all that a new user needs: make demo, make test.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN = $(VENV)/bin
OUT ?= demo-output
# threads that wait without spinning: tests start processes beside each other
export OMP_WAIT_POLICY = PASSIVE

PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test docs benchmark clean

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed; name it with make PYTHON=..."; exit 2; }
	$(PYTHON) -m venv $(VENV)

# stamps: installed once, and again when the requirements change
$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[scene,dicom]'
	@touch $@

# pydosert without what it asks for but does not use here: see the extra 'dose' in pyproject.toml
$(VENV)/.test: $(VENV)/.demo
	$(PIP) -e '.[scene,dicom,dose,training,test]'
	$(PIP) --no-deps pydosert
	@touch $@

# the digital limb, or with CASE=folder your own mr (and ct, if it is there); with JOB=propagate a digital pelvis and its next day
demo: $(VENV)/.demo
	$(BIN)/python -m rtuncertainty demo --output $(OUT) --scene $(if $(JOB),--job $(JOB)) $(if $(CASE),--case $(CASE))

test: $(VENV)/.test
	$(BIN)/python -m pytest $(ARGS)

# the documentation with the Python reference, as a web site in site/
docs: $(VENV)/.docs
	$(BIN)/python -m mkdocs build --strict --quiet

$(VENV)/.docs: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[docs]'
	@touch $@

benchmark: $(VENV)/.test
	$(BIN)/python Testing/benchmarks/sampling.py
	$(BIN)/python Testing/benchmarks/stages.py
	$(BIN)/python Testing/benchmarks/memory.py
	$(BIN)/python Testing/benchmarks/volumetric.py
	$(BIN)/python Testing/benchmarks/gamma.py
	$(BIN)/python Testing/benchmarks/dose.py

clean:
	rm -rf $(VENV) demo-output site build *.egg-info RTUncertainty/*.egg-info
