"""The face of the CUDA backend: where a call runs, by which kernel, in how much memory, and what it refuses."""

import importlib
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from fastconv import backend, cuda
from fastconv.arrays import FLOATS
from fastconv.cases import operator_cases
from fastconv.check import examine
from fastconv.cuda import choice, runtime, workspace
from fastconv.cuda.runtime import launch
from fastconv.errors import CudaError, DeviceError, DTypeError, ShapeError
from fastconv.window import Window
from tests import cupy_stand_in
from tests.emulation import require

X = np.ones((2, 3, 5, 7), "f4")
ROOT = Path(__file__).resolve().parent.parent
STORAGES = ("contiguous", "channels_last")
LARGEST = 300_000  # terms: an algorithm made for other problems takes long


@pytest.fixture(autouse=True)
def built():
    require("plain")


def window(**changes):
    made = Window.conv(X, np.ones((4, 3, 3, 3), "f4"), None, 1, 1, 1, 1, rank=2)
    return made._replace(**changes)


def test_every_operator_of_the_cuda_backend_is_one_of_the_emulated():
    assert backend.signatures("cuda") == backend.signatures("emulated")


def test_the_device_of_the_arrays_is_current_and_its_stream_is_used(cupy):
    with cupy_stand_in.Device(1):
        x = cupy.asarray(X)
    with launch("test", None, x) as gpu:
        assert cupy_stand_in.current[-1] == 1
        assert gpu.stream == cupy_stand_in.streams[1].ptr
        y = gpu.empty((2, 3), np.dtype(">f4"))
        assert (y.device.id, y.dtype.str) == (1, "<f4")
        assert gpu.read(x) == x.data.ptr
        assert gpu.read(None) == 0
    assert cupy_stand_in.current == [0]


def test_the_device_comes_back_when_a_call_fails(cupy):
    with cupy_stand_in.Device(1):
        x = cupy.asarray(X)
    with pytest.raises(MemoryError), launch("test", x):
        raise MemoryError("out of memory")
    assert cupy_stand_in.current == [0]


def test_a_refused_launch_is_a_cuda_error():
    refusal = pytest.raises(CudaError, match="conv_forward: launch: got a grid, expected a kernel that runs")
    with refusal, launch("conv_forward", X) as gpu:
        raise gpu.extension.LaunchError("a grid")


def test_new_arrays_hold_nan_under_the_emulator():
    with launch("test", X) as gpu:
        for last in (False, True):
            y = gpu.empty((2, 3, 4, 5), np.dtype("f4"), last)
            assert y.shape == (2, 3, 4, 5)
            assert np.isnan(y).all()
            assert y.transpose(0, 2, 3, 1).flags.c_contiguous == last


def test_a_window_keeps_its_numbers_and_refuses_what_kernels_cannot_count():
    with launch("test", X) as gpu:
        assert gpu.window(window()) is gpu.window(window())
        with pytest.raises(ShapeError, match="padded positions"):
            gpu.window(window(padding=((2**31 - 1, 1), (0, 0))))


def test_a_missing_extension_says_how_to_build_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastconv._cuda", None)
    runtime._cuda.cache_clear()
    with pytest.raises(DeviceError, match="FASTCONV_CUDA=on pip install"):
        runtime._cuda("conv_forward")
    monkeypatch.setitem(sys.modules, "fastconv._emulated_asan", None)
    runtime.emulator.cache_clear()
    with pytest.raises(DeviceError, match="FASTCONV_EMULATOR"):
        runtime.emulator("asan")


def test_a_missing_driver_says_what_to_do(monkeypatch):
    class Answer:
        status, value = 35, 13000

    class Extension:
        device_count = runtime_version = staticmethod(lambda: Answer)
        status_text = staticmethod(lambda status: f"error {status}: the driver is too old")

    monkeypatch.setitem(sys.modules, "fastconv._cuda", Extension)
    runtime._cuda.cache_clear()
    with pytest.raises(DeviceError, match=r"error 35: the driver is too old.*a driver for CUDA 13.*update the driver"):
        runtime._cuda("conv_forward")
    runtime._cuda.cache_clear()


@pytest.mark.parametrize("limit", [0, 1, 2**40])
def test_the_workspace_limit_holds_within_its_block_and_thread(limit):
    seen = []
    default = cuda.get_max_workspace()
    with cuda.max_workspace(limit):
        other = threading.Thread(target=lambda: seen.append(cuda.get_max_workspace()))
        other.start()
        other.join()
        assert cuda.get_max_workspace() == limit
    assert (cuda.get_max_workspace(), seen) == (default, [default])


@pytest.mark.parametrize("limit, error", [(-1, ShapeError), (1.5, DTypeError), (True, DTypeError), (None, DTypeError)])
def test_other_limits_are_refused(limit, error):
    with pytest.raises(error, match="max_workspace: nbytes"), cuda.max_workspace(limit):
        pass


def test_workspace_beyond_the_limit_is_a_mistake_of_ours():
    with launch("test", X) as gpu, cuda.max_workspace(100):
        assert gpu.workspace((25,), "f4").nbytes == 100
        with pytest.raises(AssertionError, match="exceed the limit"):
            gpu.workspace((26,), "f4")


def problems_of(operator, monkeypatch):
    """Every Problem that the operator's cases ask its table about."""
    asked = []

    def recorded(operator, problem):
        asked.append((operator, problem))
        return choice.choose(operator, problem)

    for name, module in list(sys.modules.items()):
        if name.startswith("fastconv.cuda.") and hasattr(module, "choose") and module is not choice:
            choose = module.choose
            monkeypatch.setattr(
                module, "choose", lambda op, p, choose=choose: (asked.append((op, p)), choose(op, p))[1]
            )
    seen = set()
    for case in operator_cases():
        if case.operator == operator and case.quick and case.problem not in seen:
            seen.add(case.problem)
            getattr(importlib.import_module("fastconv.emulated"), operator)(*case.arguments())
    return [problem for op, problem in asked if op == operator]


@pytest.mark.parametrize("operator", sorted(choice.TABLES))
def test_every_table_has_an_answer_for_everything(operator, monkeypatch):
    assert operator in backend.OPERATORS
    assert choice.TABLES[operator][-1].suits is choice.anything
    names = [row.algorithm for row in choice.TABLES[operator]]
    problems = problems_of(operator, monkeypatch)
    assert problems
    for problem in problems:
        for dtype in FLOATS:
            for last in (False, True):
                for architecture in (75, 80, 90, 120):
                    other = problem._replace(dtype=dtype, last=last, architecture=architecture)
                    assert choice.choose(operator, other) in names


@pytest.mark.parametrize(
    "operator, algorithm",
    [(op, name) for op in sorted(choice.TABLES) for name in dict.fromkeys(row.algorithm for row in choice.TABLES[op])],
)
def test_every_algorithm_computes_what_the_reference_does(operator, algorithm):
    """Also on problems that the table would give to another one; some case must fit it."""
    cases = [c for c in operator_cases() if c.operator == operator and c.quick and c.storage in STORAGES]
    cases = [c for c in cases if c.work < LARGEST]
    done = 0
    for case in sorted(cases, key=lambda c: (c.work, c.name))[:: max(1, len(cases) // 60)]:
        with cuda.use_algorithm(operator, algorithm):
            _, problem = examine("emulated", case)
        if problem and "algorithm: got" in problem:
            continue
        assert problem is None, case
        done += 1
    assert done > 3


def test_an_algorithm_can_be_asked_for():
    problem = choice.Problem(window(), "float32", False, 90, X.shape)
    depthwise = problem._replace(geometry=window(groups=3, filters=3))
    assert choice.choose("conv_forward", problem) != "depthwise"
    with cuda.use_algorithm("conv_forward", "implicit_gemm"):
        assert choice.choose("conv_forward", depthwise) == "implicit_gemm"
    with cuda.use_algorithm("conv_forward", "depthwise"):
        assert choice.choose("conv_forward", depthwise) == "depthwise"
        with pytest.raises(ShapeError, match="conv_forward: algorithm: got 'depthwise'"):
            choice.choose("conv_forward", problem)


@pytest.mark.parametrize("operator, algorithm", [("conv", "depthwise"), ("conv_forward", "fft")])
def test_algorithms_that_do_not_exist_are_refused(operator, algorithm):
    with pytest.raises(ShapeError, match="use_algorithm"), cuda.use_algorithm(operator, algorithm):
        pass


def test_the_default_limit_is_what_the_documentation_says():
    assert workspace._DEFAULT == 256 * 2**20
    code = "import fastconv; print(fastconv.cuda.get_max_workspace())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout == f"{256 * 2**20}\n"
