.PHONY: demo docs gpu test test-avx2 test-slow test-releases test-floor test-newest fuzz lint \
	format hooks package results smoke clean
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
TOOLS := .venv-tools
PYTHON ?= python3
OLDEST ?= python3.10
NEWEST ?= python3.13
CONSTRAINTS := constraints.txt
RELEASES := tests/test_imports.py tests/cli/test_models.py tests/methods/test_invariances.py \
	$(addprefix tests/training/test_,checkpoints.py huggingface_trainer.py overrides.py) \
	tests/models/test_backspace.py

# seqeval has no wheel; the pip of Python 3.10 builds it with the old setuptools of its environment,
# in which its build requirements no longer work. Newer versions of pip do what this asks for anyway.
export PIP_USE_PEP517 := 1

help:
	@echo "Each target creates .venv first if it is missing."
	@echo "make demo       train a model, diagnose it, and improve it, in less than 5 minutes"
	@echo "make test       run all tests except the slow ones"
	@echo "make test-avx2  run the tests of precision and kernels as on a processor without AVX-512"
	@echo "make test-slow  run the slow tests"
	@echo "make test-floor  run the tests of what other libraries do, with the oldest versions allowed"
	@echo "make test-newest  run them with the newest versions"
	@echo "make gpu        run the tests and benchmarks that need a GPU"
	@echo "make fuzz       try 10,000 damaged and hostile inputs (SEED=0 CASES=10000 ONLY='3 14')"
	@echo "make results    draw the map of measured comparisons anew"
	@echo "make docs       build the site of the documentation, build/site/index.html"
	@echo "make lint       check style and types"
	@echo "make format     mend style"
	@echo "make hooks      check style and types before every commit (pre-commit)"
	@echo "make package    build and check wheel and source"
	@echo "make smoke      try the wheel without extras in a new environment"

$(VENV)/installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --no-compile --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[dev]'
	touch $@

# On all cores, where pip would use one, and not for `lint`, which runs little of what is installed.
# Files for other versions of Python fail to compile, which does no harm.
$(VENV)/compiled: $(VENV)/installed
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib > /dev/null || true
	@touch $@

# Resumes if it was interrupted; `make clean` removes its results.
DEMO := --task.noise 0.5 --task.dev_size 500 --task.test_size 1000 --training.updates 400 \
	--training.evaluate_every 100
demo: $(VENV)/compiled
	$(BIN)/freerun train spelling $(DEMO) --output runs/demo/first
	$(BIN)/freerun diagnose runs/demo/first
	$(BIN)/freerun compare spelling $(DEMO) --methods mle scheduled_sampling --seeds 3 \
		--output runs/demo/comparison

test: $(VENV)/compiled
	@$(BIN)/pytest -n auto --dist worksteal \
		|| { echo "One test alone: $(BIN)/pytest tests/FILE.py::NAME"; exit 1; }

test-avx2: $(VENV)/compiled
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(BIN)/pytest -n auto -m 'kernels and not slow'

test-slow: $(VENV)/compiled
	$(BIN)/pytest -m slow

# What calls torch, transformers, accelerate, tokenizers and peft. Old versions warn, and the oldest
# jaxtyping cannot check types in tests.
test-releases: $(VENV)/compiled
	$(BIN)/pytest -n auto -o filterwarnings=default \
		-o addopts="--import-mode=importlib --strict-markers -m 'not slow'" \
		$(RELEASES)

test-floor:
	$(MAKE) test-releases VENV=.venv-floor PYTHON=$(OLDEST) CONSTRAINTS=constraints-oldest.txt

test-newest:
	$(MAKE) test-releases VENV=.venv-newest PYTHON=$(NEWEST) CONSTRAINTS=constraints-newest.txt

SEED ?= 0
CASES ?= 10000
fuzz: $(VENV)/compiled
	$(BIN)/python -m tests.fuzz --seed $(SEED) --cases $(CASES) --json fuzz.json \
		$(if $(ONLY),--only $(ONLY) --keep fuzz)

# DEVICE=cpu QUICK=--quick tries the script where there is no GPU.
DEVICE ?= cuda
gpu: $(VENV)/compiled
	$(BIN)/python benchmarks/gpu.py --device $(DEVICE) $(QUICK) \
		$(if $(QUICK),,--json docs/results/speed/gpu.json)

# What is in docs/results: the map in README.md and map.png, and the list of tables.
results: $(VENV)/installed
	$(BIN)/python docs/results/make_map.py

lint: $(VENV)/installed
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . \
		|| { echo "make format mends most of this"; exit 1; }
	@$(BIN)/mypy \
		|| { echo "One file alone: $(BIN)/mypy FILE. Codes in []: mypy.readthedocs.io, error codes"; exit 1; }

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

hooks: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check pre-commit
	$(BIN)/pre-commit install

# Wheel and source, as they are published.
$(TOOLS)/installed:
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --disable-pip-version-check build twine check-wheel-contents
	touch $@

package: $(TOOLS)/installed
	rm -rf dist
	$(TOOLS)/bin/python -m build
	$(TOOLS)/bin/twine check --strict dist/*
	$(TOOLS)/bin/check-wheel-contents dist/*.whl

# The wheel alone, without extras, in an environment and a folder of its own.
smoke:
	rm -rf .venv-smoke build/smoke && mkdir -p build/smoke
	$(PYTHON) -m venv .venv-smoke
	.venv-smoke/bin/pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) dist/*.whl
	cd build/smoke && sh ../../tests/smoke.sh ../../.venv-smoke/bin

$(VENV)/docs: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[docs]'
	touch $@

docs: $(VENV)/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "The site is build/site/index.html; to search in it: $(BIN)/python -m http.server -d build/site"

clean:
	rm -rf $(VENV) .venv-floor .venv-newest .venv-tools .venv-smoke runs build dist fuzz fuzz.json
