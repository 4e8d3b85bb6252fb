"""Every kernel under the emulator against the reference, and the same again in its trace and sanitizer builds.

examine() runs each case under three schedules, once in poisoned memory; the two left over follow here. The trace
build adds bounds, initialisation, races and alignment of every access; the sanitizers see the launchers too.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastconv import backend
from fastconv.cases import gradient_cases, operator_cases
from fastconv.check import examine
from tests.emulation import SCHEDULES, require, results_of, schedule

ROOT = Path(__file__).resolve().parent.parent

OPERATOR_CASES = [case for case in operator_cases() if case.quick]


def names(case):
    return f"{case.operator}-{case.dtype}-{case.name}"


def traced():
    """A case of each problem in float32 and one in a half, stored as it comes first: the walk over memory is the same
    for the other dtypes and storages."""
    seen = {}
    for case in OPERATOR_CASES:
        if case.dtype in ("float32", "float16") and case.storage in ("contiguous", "channels_last"):
            seen.setdefault((case.operator, case.problem, case.dtype, case.storage), case)
    return list(seen.values())


@pytest.fixture(autouse=True)
def built():
    require("plain")


@pytest.mark.parametrize("case", OPERATOR_CASES, ids=names)
def test_emulated(case):
    worst, problem = examine("emulated", case)
    assert problem is None, worst


@pytest.mark.parametrize("case", OPERATOR_CASES[::4], ids=names)
def test_the_other_schedules_give_the_same_bits(case):
    expected = results_of(case)
    for order in (SCHEDULES[2], SCHEDULES[4]):
        with schedule(*order):
            assert results_of(case) == expected, order


@pytest.mark.parametrize("case", gradient_cases()[::3], ids=names)
def test_gradients_through_the_tape(case):
    _, problem = examine("emulated", case)
    assert problem is None


@pytest.mark.parametrize("case", traced(), ids=names)
def test_no_access_is_out_of_bounds_uninitialised_racing_or_misaligned(case, monkeypatch):
    require("trace")
    expected = results_of(case)
    monkeypatch.setenv("FASTCONV_EMULATED", "trace")
    assert results_of(case) == expected


def test_the_sanitizers_find_nothing():
    require("asan")
    compiler = os.environ.get("CXX", "g++")
    library = subprocess.run([compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    environment = {
        **os.environ,
        "LD_PRELOAD": library.stdout.strip(),
        "ASAN_OPTIONS": "detect_leaks=0",
        "FASTCONV_EMULATED": "asan",
    }
    run = subprocess.run(
        [sys.executable, "-m", "tests.sanitized"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    assert f"{len(set(backend.OPERATORS))} operators" in run.stdout


def test_every_operator_is_emulated():
    assert {case.operator for case in OPERATOR_CASES} == set(backend.OPERATORS) == set(backend.signatures("emulated"))
