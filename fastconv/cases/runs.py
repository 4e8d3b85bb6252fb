"""Running a case, and what can be wrong with a run besides its values."""

import contextlib
import functools
import importlib

import numpy

from fastconv.arrays import is_array
from fastconv.cases.gradients import GradientCase
from fastconv.cases.storage import memory

# What three runs of a case on the emulator differ in: the order of threads, when asynchronous copies take effect,
# a seed, and whether blocks run last to first.
_SCHEDULES = (("forward", "late", 1, False), ("reverse", "late", 1, True), ("random", "early", 1, False))


def run_thrice(name, case, misfit):
    """Run a case, run it again in poisoned memory, and run it once more under another order of threads.

    That is one thread instead of two on the cpu backend, and three schedules of the emulator on the emulated one.

    Args:
        name: Name of the backend.
        case: A Case or GradientCase.
        misfit: Function of the results that says what is wrong with their number, dtypes or shapes, or None.

    Returns:
        (results, problem): those of the first run, and what is wrong with one of them, or None.
    """
    with _order(name, 0):
        first, problem = _run(name, case, misfit)
    if problem:
        return first, problem
    with _order(name, 1), poisoned_memory(name):
        second, problem = _run(name, case, misfit)
    if problem or not _identical(first, second):
        return first, problem or "two runs differ, or an element is never written"
    with _order(name, 2):
        third, problem = _run(name, case, misfit)
    if problem or not _identical(first, third):
        return first, problem or ("one and two threads differ" if name == "cpu" else "three runs differ")
    return first, None


def _run(name, case, misfit):
    """(results, problem) of one run on new arguments."""
    arguments = case.arguments()
    given = _mapped(arguments, _to_gpu) if name == "cuda" else arguments
    arrays, before = list(_arrays(given)), [_contents(a) for a in _arrays(given)]
    if isinstance(case, GradientCase):
        results = case.run(name, *given)
    else:
        results = getattr(importlib.import_module(f"fastconv.{name}"), case.operator)(*given)
    results = results if isinstance(results, tuple) else (results,)
    shared = any(_namespace(name).may_share_memory(r, a) for r in results if is_array(r) for a in arrays)
    if name == "cuda":
        results = tuple(r.get() for r in results)
    problem = misfit(results)
    if problem is None and any(_contents(a) != old for a, old in zip(arrays, before, strict=True)):
        problem = "an input was changed"
    if problem is None and shared:
        problem = "a result shares its memory with an input"
    return results, problem


def _to_gpu(array):
    return importlib.import_module("fastconv.cuda.transfer").as_stored(array)


def _contents(array):
    """The bytes of an array; on the host those of the whole block of memory that it is a view of."""
    return memory(array) if isinstance(array, numpy.ndarray) else array.get().tobytes()


def _namespace(name):
    return importlib.import_module("cupy" if name == "cuda" else "numpy")


def _mapped(value, function):
    """function of every array inside nested tuples and dicts."""
    if isinstance(value, numpy.ndarray):
        return function(value)
    if isinstance(value, dict):
        return {key: _mapped(part, function) for key, part in value.items()}
    if type(value) is tuple:  # and not a Window, which is one too
        return tuple(_mapped(part, function) for part in value)
    return value


def _arrays(value):
    """Every array inside nested tuples and dicts; a Window, which is a tuple too, holds none."""
    if is_array(value):
        yield value
    elif isinstance(value, (tuple, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _arrays(part)


def _order(name, run):
    """A context in which a backend computes in the order of this run, 0 to 2; a GPU chooses its own."""
    if name == "cpu":
        return _threads(1 if run == 2 else 2)
    if name == "emulated":
        return importlib.import_module("fastconv.cuda.runtime").schedule(*_SCHEDULES[run])
    return contextlib.nullcontext()


@contextlib.contextmanager
def _threads(count):
    """That many threads for even the shortest call."""
    threads = importlib.import_module("fastconv.cpu.threads")
    with threads.num_threads(count), threads.every_call_shared():
        yield


@contextlib.contextmanager
def poisoned_memory(name):
    """Within the block, new arrays of a backend hold NaN, or a number as unlikely, until they are written.

    Compiled code that calls numpy.empty must have been compiled before.

    Args:
        name: Name of the backend.
    """
    namespace = _namespace(name)
    kept = namespace.empty, namespace.empty_like

    def poisoned(make):
        @functools.wraps(make)
        def made(*args, **kwargs):
            array = make(*args, **kwargs)
            if name == "cuda":
                array.data.memset(0xFF, array.nbytes)  # NaN in every dtype
            elif array.dtype.kind in "iu":
                array[...] = numpy.iinfo(array.dtype).min
            elif array.dtype.kind == "f" or array.dtype.name == "bfloat16":
                array[...] = numpy.nan
            return array

        return made

    namespace.empty, namespace.empty_like = poisoned(kept[0]), poisoned(kept[1])
    try:
        yield
    finally:
        namespace.empty, namespace.empty_like = kept


def _identical(results, others):
    return all(a.tobytes() == b.tobytes() for a, b in zip(results, others, strict=True))
