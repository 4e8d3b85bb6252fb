# Everything a contributor does, from a fresh clone. It needs python3, pip and g++; with an nvcc the CUDA extension is
# built too (FASTCONV_CUDA=off leaves it out), and for the tests its kernels are compiled for the CPU as well
# (FASTCONV_EMULATOR=off leaves that out).

PYTHON ?= python3
# The second witness of the tests. `make test PEERS=` leaves it out.
PEERS ?= torch==2.13.0
# Test processes at once.
JOBS ?= 2
# The builds of fastconv._emulated that the tests run kernels in; setup.py tells what they are.
FASTCONV_EMULATOR ?= plain,asan,trace
# What `python -m bench` is asked for; `.venv/bin/python -m bench --help` lists the choices.
BENCH_ARGS ?= run --suite resnet50 --quick --json build/bench.json

# Such as `--only check,memcheck` or `--output FOLDER`.
GPU_CHECK_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CPP = $(shell find csrc -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' -o -name '*.h')
# What a change of makes an installation stale; Python files do not, the installation is editable.
BUILD_INPUTS = pyproject.toml setup.py CMakeLists.txt $(wildcard cmake/* cmake/*/*) $(CPP)
# pip's own build environment is another folder each time, which defeats incremental builds. It is needed where pip
# has to bring the compiler.
ISOLATION = $(if $(filter wheels,$(FASTCONV_CUDA)),,--no-build-isolation)
INSTALL = $(PIP) install --quiet $(ISOLATION) --editable
# A stamp for each set of peers, so that another choice is installed and the same one is not installed again.
PEERS_STAMP = $(VENV)/.peers-$(shell echo '$(PEERS)' | cksum | cut -d ' ' -f 1)

.PHONY: help venv install emulated lint format test check bench demo docs gpu-check clean

help:  ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(VENV)/.made  ## Make the virtual environment .venv.

install: $(VENV)/.test  ## Install fastconv, editable, with what its tests need.

emulated: $(VENV)/.tools  ## Compile changed kernels for the CPU alone, plain: the quickest way to try them.
	FASTCONV_CUDA=off FASTCONV_EMULATOR=plain $(BIN)/python setup.py --quiet build_ext --inplace

lint: $(VENV)/.lint  ## Check the style of Python and C++.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CPP)

format: $(VENV)/.lint  ## Put Python and C++ into style.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

test: $(VENV)/.test $(PEERS_STAMP)  ## Run the tests, with PyTorch as second witness unless PEERS= is empty.
	$(BIN)/python -m pytest -n $(JOBS) $(PYTEST_ARGS)

check: $(VENV)/.test  ## Compare every backend that runs here with the reference.
	$(BIN)/python -m fastconv check

bench: $(VENV)/.bench $(PEERS_STAMP)  ## Time the layers of ResNet-50 beside PyTorch; BENCH_ARGS chooses otherwise.
	mkdir -p build
	$(BIN)/python -m bench $(BENCH_ARGS)

demo: $(VENV)/.demo  ## Check the installation and train a first network; leaves build/demo/report.html.
	$(BIN)/python -m fastconv check --quick
	$(BIN)/python -m examples.digits

docs: $(VENV)/.docs  ## Build the documentation into build/docs.
	$(BIN)/python -m sphinx -W -b html docs build/docs

# A machine with a GPU often has no network and a Python of its own with CuPy and PyTorch: that one is used if it will do.
gpu-check:  ## On a machine with a GPU: build, check, sanitizers, benchmarks beside PyTorch, in under nine minutes.
	@if $(PYTHON) -c 'import cupy, numba, pybind11, pytest, xdist' 2>/dev/null; then \
	$(PYTHON) -m bench.gpu_check $(GPU_CHECK_ARGS); else \
	$(MAKE) $(VENV)/.gpu $(PEERS_STAMP) && $(BIN)/python -m bench.gpu_check $(GPU_CHECK_ARGS); fi

clean:  ## Remove what was built, and .venv.
	rm -rf $(VENV) build dist fastconv.egg-info fastconv/_build_info.py fastconv/_cuda*.so fastconv/_emulated*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade 'pip>=25.1'
	touch $@

# The linters alone: nothing of fastconv is built for them.
$(VENV)/.lint: pyproject.toml | $(VENV)/.made
	$(PIP) install --quiet --group lint
	touch $@

$(VENV)/.docs: pyproject.toml | $(VENV)/.test
	$(PIP) install --quiet --group docs
	touch $@

$(VENV)/.tools: pyproject.toml | $(VENV)/.made
	$(PIP) install --quiet --group build
	touch $@

$(VENV)/.test: $(BUILD_INPUTS) | $(VENV)/.tools
	FASTCONV_EMULATOR=$(FASTCONV_EMULATOR) $(INSTALL) '.[test]'
	touch $@

$(VENV)/.bench $(VENV)/.demo: $(VENV)/.%: $(BUILD_INPUTS) | $(VENV)/.tools
	$(INSTALL) '.[$*]'
	touch $@

$(VENV)/.gpu: $(BUILD_INPUTS) | $(VENV)/.tools
	FASTCONV_CUDA=off $(INSTALL) '.[test,cuda13]'
	touch $@

$(PEERS_STAMP): | $(VENV)/.made
	$(if $(strip $(PEERS)),$(PIP) install --quiet $(PEERS))
	touch $@
