"""Every case of the self-check on the CPU, and the cases themselves."""

import importlib

import numpy as np
import pytest

from fastconv import backend, functional
from fastconv.cases import all_cases, gradient_cases, operator_cases
from fastconv.cases.storage import EVERY_STORAGE, memory, stored
from fastconv.check import examine

ALL = all_cases()


@pytest.mark.parametrize("case", [c for c in ALL if c.quick], ids=lambda c: f"{c.operator}-{c.dtype}-{c.name}")
def test_cpu(case):
    _, problem = examine("cpu", case)
    assert problem is None


def test_every_operator_has_cases_of_every_dtype_and_rank():
    seen = {(case.operator, case.dtype) for case in operator_cases()}
    assert seen == {(o, d) for o in backend.OPERATORS for d in ("float16", "bfloat16", "float32", "float64")}


def test_every_public_function_of_the_families_is_differentiated():
    families = {f"fastconv.functional.{stem}" for stem in ("conv", "pool", "norm", "resize")}
    public = {name for name in functional.__all__ if getattr(functional, name).__module__ in families}
    public = {name for name in public if not name.endswith("_with_indices")}  # the same functions, giving pairs
    public.add("cross_entropy")  # the one loss that has operators
    assert {case.function for case in gradient_cases()} == public


def test_names_tell_cases_apart():
    names = [(case.operator, case.dtype, case.name) for case in ALL]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("operator", backend.OPERATORS)
def test_some_case_is_shared_by_two_threads(operator, monkeypatch):
    """Otherwise the comparison of one and two threads would compare one thread with itself."""
    threads = importlib.import_module("fastconv.cpu.threads")
    calls = []
    ensure = threads._ensure_workers
    monkeypatch.setattr(threads, "_ensure_workers", lambda wanted: (calls.append(wanted), ensure(wanted)))
    largest = max(
        (c for c in operator_cases() if c.operator == operator and c.dtype == "float32"), key=lambda c: c.work
    )
    with threads.num_threads(2), threads.every_call_shared():
        getattr(importlib.import_module("fastconv.cpu"), operator)(*largest.arguments())
    assert calls


@pytest.mark.parametrize("case", [c for c in operator_cases() if c.storage == "mixed"][::9], ids=lambda c: c.name)
def test_inputs_are_the_same_at_every_call_and_in_every_storage(case):
    first, second = case.arguments(), case.arguments()
    contiguous = case._replace(storage="contiguous").arguments()
    for a, b, plain in zip(first, second, contiguous, strict=True):
        if isinstance(a, np.ndarray):
            assert a is not b
            assert a.tobytes() == b.tobytes() == plain.tobytes()
        else:
            assert a == b == plain


@pytest.mark.parametrize("storage", [*EVERY_STORAGE, "contiguous", "channels_last", "transposed"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 4), (5,), (2, 0, 3), (2, 3, 0)])
@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_storage_changes_no_value(storage, shape, dtype):
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    kept = stored(array, storage)
    assert kept.dtype.name == dtype
    np.testing.assert_array_equal(kept, array, strict=False)


def test_storages_are_what_they_are_called():
    array = np.arange(120, dtype="float32").reshape(2, 3, 4, 5)
    assert np.moveaxis(stored(array, "channels_last"), 1, -1).flags.c_contiguous
    assert stored(array, "fortran").flags.f_contiguous
    assert stored(array, "transposed").swapaxes(-1, -2).flags.c_contiguous
    assert stored(array, "every_second").strides[-1] == 8
    assert stored(array, "backwards").strides[-1] == -4
    assert not stored(array, "read_only").flags.writeable
    assert not stored(array, "byte_swapped").dtype.isnative
    assert not stored(array, "misaligned").flags.aligned
    assert stored(np.ones((2, 3), "float32"), "broadcast").strides[-1] == 0
    assert stored(array, "mixed", 1).strides == stored(array, "channels_last").strides
    assert len(memory(stored(array, "every_second"))) == 2 * 3 * 4 * 11 * 4


def test_the_scale_is_never_less_than_the_result():
    for case in operator_cases():
        if case.quick and not case.exact and case.dtype == "float64" and case.fill == "normal":
            for result, scale in zip(case.expected(), case.scale(), strict=True):
                assert (np.abs(result) <= scale * (1 + 1e-12) + 1e-300).all(), case
