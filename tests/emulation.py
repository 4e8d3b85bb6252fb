"""What tests that run kernels under the emulator share."""

import importlib
import importlib.util
import os

import pytest

from fastconv.cuda.runtime import schedule

__all__ = ["SCHEDULES", "is_built", "require", "results_of", "schedule"]

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
