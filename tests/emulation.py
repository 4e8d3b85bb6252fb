"""What tests that run kernels under the emulator share."""

import contextlib
import importlib.util
import os

import pytest

from fastconv.cuda import runtime

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


@contextlib.contextmanager
def schedule(order, async_mode, seed, reverse_blocks, kind="plain"):
    """Within the block, kernels are scheduled so."""
    extension = runtime.emulator(kind)
    extension.set_schedule(order, async_mode, seed, reverse_blocks)
    try:
        yield
    finally:
        extension.set_schedule(*SCHEDULES[0])
