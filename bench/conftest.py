"""Options and fixtures of the pytest-benchmark suites: `pytest bench --benchmark-only`."""

import importlib.util
import os

import pytest

# Before any library starts its threads: those of one must sleep while another is timed.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from bench import shapes
from bench.engines import Case
from bench.libraries import engine
from bench.machine import default_threads
from bench.run import LAYOUTS, QUICK, itemsize

os.environ.setdefault("OMP_NUM_THREADS", str(default_threads()))

ROUNDS, WARM_UP_ROUNDS = 7, 2


def pytest_addoption(parser):
    group = parser.getgroup("fastconv bench")
    group.addoption("--bench-suite", help="a suite of `python -m bench run` instead of the quick selection")
    group.addoption("--bench-backends", default=None, help="such as cpu,reference,torch; cpu and torch unless told")
    group.addoption("--bench-dtype", default="float32", help="dtype of all arrays")


def pytest_configure(config):
    config.addinivalue_line("python_files", "bench_*.py")
    config.addinivalue_line("python_functions", "bench_*")


def _backends(config):
    chosen = config.getoption("--bench-backends")
    if chosen:
        return chosen.split(",")
    return ["cpu"] + (["torch"] if importlib.util.find_spec("torch") else [])


def pytest_generate_tests(metafunc):
    if "case" not in metafunc.fixturenames:
        return
    config, module = metafunc.config, metafunc.module
    name, dtype = config.getoption("--bench-suite"), config.getoption("--bench-dtype")
    problems = shapes.suite(name) if name else module.QUICK_SELECTION
    budget = shapes.Budget(None, QUICK.gflop, QUICK.mb)
    selected = shapes.select([p for p in problems if p.is_pool == module.IS_POOL], budget, itemsize(dtype))
    cases = [
        Case(problem, direction, layout, dtype)
        for problem in selected.problems
        for direction in problem.directions
        for layout in LAYOUTS
    ]
    ids = [f"{c.problem.suite}/{c.problem.name}-{c.direction}-{c.layout}".replace(" ", "_") for c in cases]
    metafunc.parametrize("case", cases, ids=ids)
    metafunc.parametrize("backend", _backends(config), scope="session")


@pytest.fixture(scope="session")
def library(backend):
    """The engine of a backend."""
    return engine(backend)


@pytest.fixture
def timed(benchmark, library, backend, case):
    """A function that times the case, with one group for all backends of it."""

    def time():
        problem = case.problem
        benchmark.group = f"{problem.suite}/{problem.name} {problem.describe()} {case.direction} {case.layout}"
        benchmark.extra_info.update(
            backend=backend,
            version=library.version,
            dtype=case.dtype,
            flops=problem.flops,
            bytes=problem.bytes(itemsize(case.dtype)),
        )
        with library.active():
            job = library.prepare(case)
            return benchmark.pedantic(job.call, rounds=ROUNDS, warmup_rounds=WARM_UP_ROUNDS)

    return time
