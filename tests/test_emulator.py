"""The emulator finds what it is there to find: bugs planted in kernels, and none in the same kernels without them.

csrc/emulator/planted holds the kernels. The plain build sees wrong results, threads that wait for ever and what ends
past a tile; the trace build sees every access; the sanitizers see heap and alignment.
"""

import importlib
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy
import pytest

from tests import planted
from tests.emulation import huge, require, sparse

ROOT = Path(__file__).resolve().parent.parent

# What the plain and the trace build find, and whether the sanitizers end the process. Where nothing is said, the bug
# is beyond that build.
BUGS = {
    ("simt", "global_read"): (None, "GLOBAL OUT OF BOUNDS: read", True),
    ("simt", "global_write"): ("beyond", "GLOBAL OUT OF BOUNDS: write", True),
    ("simt", "shared_write"): ("SHARED OUT OF BOUNDS", "SHARED OUT OF BOUNDS: write", True),
    ("simt", "missing_barrier"): ("wrong", "RACE", False),
    ("simt", "unwritten_shared"): ("wrong", "UNINITIALISED READ", False),
    ("simt", "unwritten_output"): ("wrong", "wrong", False),
    ("simt", "divergent_barrier"): ("DIVERGENT BARRIER", "DIVERGENT BARRIER", False),
    ("mma", "misaligned_copy"): ("MISALIGNED", "MISALIGNED", False),
    ("mma", "wait_for_too_few"): ("wrong", "UNINITIALISED READ", False),
    ("mma", "wait_after_barrier"): ("wrong", "RACE, read after write", False),
    ("mma", "missing_barrier"): ("wrong", "RACE, read after write", False),
    ("wgmma", "no_wait_for_empty"): ("more arrivals", "more arrivals", False),
    ("wgmma", "too_few_bytes"): ("wrong", "UNINITIALISED READ", False),
    ("wgmma", "early_release"): ("wrong", "RACE, write after read", False),
    ("wgmma", "early_read"): ("wrong", "wrong", False),
    ("small", "divergent_shuffle"): ("DEADLOCK", "DEADLOCK", False),
    ("small", "misaligned_vector"): ("wrong", "MISALIGNED", True),
    ("small", "missing_warp_barrier"): ("wrong", "RACE", False),
    ("small", "blocks_write_same"): ("wrong", "another block", False),
    ("small", "blocks_read_write"): ("wrong", "another block", False),
    ("small", "unwritten_input"): (None, "UNINITIALISED READ", False),
    ("small", "early_exit"): ("DEADLOCK", "DEADLOCK", False),
    ("small", "write_after_read"): ("wrong", "RACE", False),
    ("small", "barrier_at_two_places"): ("DIVERGENT BARRIER", "DIVERGENT BARRIER", False),
    ("small", "wrong_mask"): ("DEADLOCK", "DEADLOCK", False),
    ("small", "same_value"): (None, "RACE, write after write", False),
    ("small", "too_much_shared"): ("232449 bytes", "232449 bytes", False),
}


def extension(build):
    require(build)
    return importlib.import_module("fastconv._emulated" + ("" if build == "plain" else f"_{build}"))


def sanitized(*arguments):
    require("asan")
    compiler = os.environ.get("CXX", "g++")
    library = subprocess.run([compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    environment = {**os.environ, "LD_PRELOAD": library.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"}
    command = [sys.executable, "-m", "tests.planted", "asan", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("build", ["plain", "trace"])
@pytest.mark.parametrize("kernel, bug", BUGS)
def test_a_planted_bug_is_found(kernel, bug, build):
    extension(build)
    expected = BUGS[kernel, bug][build == "trace"]
    found = planted.find(build, kernel, bug)
    assert found == expected or (found and expected and re.search(expected, found)), found


@pytest.mark.parametrize("build", ["plain", "trace"])
@pytest.mark.parametrize("kernel, bug", BUGS)
def test_nothing_is_found_without_the_bug(kernel, bug, build):
    extension(build)
    assert planted.find(build, kernel, bug, correct=True) is None


@pytest.mark.parametrize("kernel, bug", [pair for pair, (_, _, ends) in BUGS.items() if ends])
def test_the_sanitizers_end_the_process(kernel, bug):
    run = sanitized(kernel, bug)
    assert run.returncode != 0
    assert "AddressSanitizer" in run.stderr or "runtime error" in run.stderr, run.stderr


def test_the_sanitizers_find_nothing_without_bugs():
    run = sanitized(*(word for kernel, bug in BUGS for word in (kernel, "-" + bug)))
    assert run.returncode == 0, run.stderr


def test_every_bug_is_planted():
    names = set(extension("plain").planted_bugs())
    assert names == {bug for _, bug in BUGS}
    assert all(trace for _, trace, _ in BUGS.values())


def copy(machine, x, y):
    machine.register_buffer(x.ctypes.data, x.nbytes, "x", True)
    machine.register_buffer(y.ctypes.data, y.nbytes, "y", False)
    try:
        size, stride = [1, 1, 1, 1, x.size], [0, 0, 0, 0, 1]
        machine.layout_copy(x.itemsize, x.ctypes.data, y.ctypes.data, size, stride, 0)
    finally:
        machine.forget_buffer(x.ctypes.data)
        machine.forget_buffer(y.ctypes.data)


@pytest.mark.parametrize("build", ["plain", "trace"])
def test_threads_launch_one_at_a_time(build):
    machine = extension(build)
    arrays = [numpy.arange(5000, dtype=numpy.float32) + i for i in range(4)]
    results = [numpy.full_like(x, numpy.nan) for x in arrays]
    threads = [threading.Thread(target=copy, args=(machine, *pair)) for pair in zip(arrays, results, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((x == y).all() for x, y in zip(arrays, results, strict=True))


def test_counters():
    machine = extension("trace")
    x, y = numpy.arange(1024, dtype=numpy.float32), numpy.empty(1024, numpy.float32)
    machine.set_counting(True)
    try:
        machine.reset_counters()
        copy(machine, x, y)
        (launch,) = machine.counters()
        machine.reset_counters()
        assert machine.counters() == []
    finally:
        machine.set_counting(False)
    assert launch.kernel.startswith("layout_copy_kernel<")
    assert launch.grid[0] == launch.counts["blocks"]
    for access in ("load", "store"):
        assert launch.counts[f"{access}_sectors"] == launch.counts[f"{access}_sectors_minimum"] == 1024 * 4 // 32
        assert launch.counts[f"{access}_bytes_distinct"] == 1024 * 4
        assert launch.counts[f"{access}_sectors_distinct"] == 1024 * 4 // 32
    assert {site.access for site in launch.sites} == {"load", "store"}
    assert all(site.memory == "global" and ".cuh:" in site.where for site in launch.sites)


def test_counters_of_shared_memory_and_tensor_cores():
    machine = extension("trace")
    machine.set_counting(True)
    try:
        machine.reset_counters()
        assert planted.find("trace", "mma", "missing_barrier", correct=True) is None
        launch = machine.counters()[0]
    finally:
        machine.set_counting(False)
        machine.reset_counters()
    tiles, blocks = 5, 4
    assert launch.counts["mma"] == blocks * 2 * tiles * 2 * 8  # warps, tiles, steps along K, products each
    assert launch.counts["matrix_multiply_adds"] == launch.counts["mma"] * 16 * 8 * 16
    assert launch.counts["load_matrix"] == blocks * 2 * tiles * 2 * 4
    # Four phases of eight rows each, which the swizzle keeps apart.
    assert launch.counts["shared_load_wavefronts"] == launch.counts["shared_load_wavefronts_minimum"]
    assert launch.counts["shared_load_words"] == launch.counts["load_matrix"] * 4 * 32


def test_arrays_may_overlap_or_be_registered_twice():
    machine = extension("trace")
    x = numpy.arange(512, dtype=numpy.float32)
    part, y = x[128:256], numpy.empty(128, numpy.float32)
    machine.register_buffer(x.ctypes.data, x.nbytes, "whole", True)
    copy(machine, part, y)
    copy(machine, x[:128], y)
    machine.forget_buffer(x.ctypes.data)
    assert (y == x[:128]).all()


def test_a_schedule_has_to_exist():
    machine = extension("plain")
    with pytest.raises(ValueError, match="sideways"):
        machine.set_schedule("sideways", "late", 1, False)
    with pytest.raises(ValueError, match="never"):
        machine.set_schedule("forward", "never", 1, False)


def test_one_block_of_a_grid():
    machine = extension("plain")
    x, y = numpy.arange(5000, dtype=numpy.float32), numpy.full(5000, numpy.nan, numpy.float32)
    machine.only_block(1)
    try:
        copy(machine, x, y)
    finally:
        machine.only_block(-1)
    written = numpy.flatnonzero(~numpy.isnan(y))
    assert written[0] > 0 and len(written) < len(y)
    assert (y[written] == x[written]).all()


def test_arrays_of_more_elements_than_int32_counts():
    count = 2**31 + 4097
    with huge() as machine:
        x, y = sparse([count], numpy.uint16), sparse([count], numpy.uint16)
        x[-3000:] = numpy.arange(1, 3001)
        copy(machine, x, y)
    written = numpy.flatnonzero(y[-3000:])
    assert len(written) and written[-1] == 2999
    assert (y[-3000:][written] == x[-3000:][written]).all()
