"""Running a case, and what can be wrong with a run besides its values."""

import contextlib
import functools
import importlib

import numpy

from fastconv.cases.gradients import GradientCase
from fastconv.cases.storage import memory


def run_thrice(name, case, misfit):
    """Run a case, run it again in poisoned memory, and run it once more in one thread instead of two.

    Args:
        name: Name of the backend.
        case: A Case or GradientCase.
        misfit: Function of the results that says what is wrong with their number, dtypes or shapes, or None.

    Returns:
        (results, problem): those of the first run, and what is wrong with one of them, or None.
    """
    with _threads(name, 2):
        first, problem = _run(name, case, misfit)
        if problem:
            return first, problem
        with poisoned_memory():
            second, problem = _run(name, case, misfit)
    if problem or not _identical(first, second):
        return first, problem or "two runs differ, or an element is never written"
    with _threads(name, 1):
        third, problem = _run(name, case, misfit)
    if problem or not _identical(first, third):
        return first, problem or ("one and two threads differ" if name == "cpu" else "three runs differ")
    return first, None


def _run(name, case, misfit):
    """(results, problem) of one run on new arguments."""
    arguments = case.arguments()
    arrays = list(_arrays(arguments))
    before = [memory(a) for a in arrays]
    if isinstance(case, GradientCase):
        results = case.run(name, *arguments)
    else:
        results = getattr(importlib.import_module(f"fastconv.{name}"), case.operator)(*arguments)
    results = results if isinstance(results, tuple) else (results,)
    problem = misfit(results)
    if problem is None and any(memory(a) != old for a, old in zip(arrays, before, strict=True)):
        problem = "an input was changed"
    if problem is None and any(numpy.may_share_memory(r, a) for r in results for a in arrays):
        problem = "a result shares its memory with an input"
    return results, problem


def _arrays(value):
    """Every array inside nested tuples and dicts; a Window, which is a tuple too, holds none."""
    if isinstance(value, numpy.ndarray):
        yield value
    elif isinstance(value, (tuple, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _arrays(part)


def _threads(name, count):
    """A context with this many threads, on the backend that has threads."""
    if name != "cpu":
        return contextlib.nullcontext()
    return importlib.import_module("fastconv.cpu.threads").num_threads(count)


@contextlib.contextmanager
def poisoned_memory():
    """Within the block, new arrays of NumPy hold NaN, or the least integer, until they are written.

    Compiled code that calls numpy.empty must have been compiled before.
    """
    kept = numpy.empty, numpy.empty_like

    def poisoned(make):
        @functools.wraps(make)
        def made(*args, **kwargs):
            array = make(*args, **kwargs)
            if array.dtype.kind in "iu":
                array[...] = numpy.iinfo(array.dtype).min
            elif array.dtype.kind == "f" or array.dtype.name == "bfloat16":
                array[...] = numpy.nan
            return array

        return made

    numpy.empty, numpy.empty_like = poisoned(numpy.empty), poisoned(numpy.empty_like)
    try:
        yield
    finally:
        numpy.empty, numpy.empty_like = kept


def _identical(results, others):
    return all(a.tobytes() == b.tobytes() for a, b in zip(results, others, strict=True))
