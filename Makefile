.PHONY: demo test test-avx2 test-slow lint clean
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3

help:
	@echo "Each target creates .venv first if it is missing."
	@echo "make demo       compare two training methods on misspelled text, in less than 5 minutes"
	@echo "make test       run all tests except the slow ones"
	@echo "make test-avx2  run the tests of precision and kernels as on a processor without AVX-512"
	@echo "make test-slow  run the slow tests"
	@echo "make lint       check style and types"

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# Resumes if it was interrupted; `make clean` removes its results.
demo: $(VENV)/installed
	$(BIN)/freerun compare spelling --task.noise 0.5 --task.dev_size 500 --task.test_size 1000 \
		--methods mle scheduled_sampling --seeds 2 \
		--training.updates 400 --training.evaluate_every 100 --output runs/demo

test: $(VENV)/installed
	$(BIN)/pytest -n auto

test-avx2: $(VENV)/installed
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(BIN)/pytest -n auto -m 'kernels and not slow'

test-slow: $(VENV)/installed
	$(BIN)/pytest -m slow

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) runs build dist
