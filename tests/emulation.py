"""What tests that run kernels under the emulator share."""

import contextlib
import importlib
import importlib.util
import math
import mmap
import os
from unittest import mock

import numpy
import pytest

from fastconv.cuda import runtime
from fastconv.cuda.runtime import schedule

__all__ = ["LAST_BLOCK", "SCHEDULES", "huge", "is_built", "require", "results_of", "schedule", "sparse"]

LAST_BLOCK = -2

# Order of threads, when asynchronous copies take effect, seed, whether blocks run last to first. Results must be
# the same bits under each.
SCHEDULES = (
    ("forward", "late", 1, False),
    ("reverse", "late", 1, True),
    ("random", "late", 1, False),
    ("random", "early", 2, True),
    ("lockstep", "early", 1, False),
)


def is_built(kind):
    """Whether this installation holds a build of the emulator: "plain", "trace" or "asan"."""
    name = "_emulated" if kind == "plain" else f"_emulated_{kind}"
    return importlib.util.find_spec(f"fastconv.{name}") is not None


def require(kind):
    """Skip the test where a build of the emulator is missing; on a machine that tests changes, fail."""
    if is_built(kind):
        return
    message = f"the emulator's {kind} build is not there: `make test` builds it"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def results_of(case):
    """The bytes of the results of a Case on the emulator."""
    results = getattr(importlib.import_module("fastconv.emulated"), case.operator)(*case.arguments())
    return [r.tobytes() for r in (results if isinstance(results, tuple) else (results,))]


def sparse(shape, dtype):
    """An array of zeros that takes memory only where it is written, so that it may have more than 2**31 elements."""
    dtype = numpy.dtype(dtype)
    no_reserve = getattr(mmap, "MAP_NORESERVE", 0x4000)  # Linux's; Python before 3.13 does not name it
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve
    memory = mmap.mmap(-1, max(1, math.prod(shape) * dtype.itemsize), flags=flags)
    return numpy.frombuffer(memory, dtype, math.prod(shape)).reshape(shape)


@contextlib.contextmanager
def huge(block=LAST_BLOCK):
    """Within the block, kernels on the emulator run one block of their grids, and allocate sparse arrays.

    For offsets beyond 2**31: elements that the last block writes can be compared, the others stay 0. The tracer's
    memory of every byte is too large for it.
    """
    require("plain")
    extension = runtime.emulator("plain")
    extension.only_block(block)
    try:
        with mock.patch.object(runtime.EmulatedLaunch, "_allocated", lambda self, shape, dtype: sparse(shape, dtype)):
            yield extension
    finally:
        extension.only_block(-1)
