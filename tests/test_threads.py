"""The thread pool: every task once, errors, forks and many callers at once; and kernels with no disk to be kept on."""

import multiprocessing
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from fastconv.cpu import pool, threads
from fastconv.errors import DTypeError, ShapeError

LONG = 10**9  # nanoseconds: worth all threads
HAS_FORK = hasattr(os, "fork")


def count_up(first, last, counts):
    """A kernel in plain Python: the pool does not know the difference."""
    for task in range(first, last):
        counts[task] += 1


@pytest.fixture(autouse=True)
def three_threads():
    with threads.num_threads(3):
        yield


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("tasks", [0, 1, 2, 5, 12, 97])
def test_every_task_runs_once(count, tasks):
    counts = [0] * tasks
    with threads.num_threads(count):
        threads.parallel_for(count_up, tasks, LONG, counts)
    assert counts == [1] * tasks


def test_work_is_shared():
    seen, meeting = set(), threading.Barrier(3)

    def note(first, last):
        seen.add(threading.get_ident())
        if first < 3:
            meeting.wait(timeout=60)  # three tasks that end only together need three threads

    threads.parallel_for(note, 3, LONG)
    assert len(seen) == 3


@pytest.mark.parametrize("tasks, nanoseconds, count", [(50, 1000, 3), (1, LONG, 3), (50, LONG, 1)])
def test_short_work_stays_in_the_callers_thread(tasks, nanoseconds, count):
    calls = []
    with threads.num_threads(count):
        threads.parallel_for(lambda first, last: calls.append((first, last, threading.get_ident())), tasks, nanoseconds)
    assert calls == [(0, tasks, threading.get_ident())]


@pytest.mark.parametrize("bad", [0, 1, 11])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_exceptions_reach_the_caller(bad, count):
    def fail(first, last):
        if first <= bad < last:
            raise ArithmeticError(f"task {bad}")

    with threads.num_threads(count):
        for _ in range(20):
            with pytest.raises(ArithmeticError, match=f"task {bad}"):
                threads.parallel_for(fail, 12, LONG)
        counts = [0] * 40
        threads.parallel_for(count_up, 40, LONG, counts)  # the pool has survived
    assert counts == [1] * 40


def test_many_callers_at_once():
    rng = np.random.default_rng(0)
    x, failures = rng.standard_normal((2, 40, 30)).astype("float32"), []
    indices = rng.integers(0, 30, (2, 40, 50))
    expected = np.take_along_axis(x, indices, axis=2)
    pool.pool_gather(x, indices)

    def call():
        for _ in range(50):
            counts = [0] * 31
            threads.parallel_for(count_up, 31, LONG, counts)
            if counts != [1] * 31 or not np.array_equal(pool.pool_gather(x, indices), expected):
                failures.append(counts)

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not failures


def test_calls_within_calls():
    totals = [0] * 9

    def outer(first, last):
        for task in range(first, last):
            counts = [0] * 20
            threads.parallel_for(count_up, 20, LONG, counts)
            totals[task] = sum(counts)

    threads.parallel_for(outer, 9, LONG)
    assert totals == [20] * 9


@pytest.mark.parametrize(
    "count, error",
    [(0, ShapeError), (-3, ShapeError), (True, DTypeError), (1.5, DTypeError), ("2", DTypeError), (None, DTypeError)],
)
def test_wrong_numbers_of_threads_are_refused(count, error):
    with pytest.raises(error, match="set_num_threads: count"):
        threads.set_num_threads(count)
    with pytest.raises(error), threads.num_threads(count):
        pass
    assert threads.get_num_threads() == 3


def test_the_number_of_threads_comes_back():
    with pytest.raises(KeyError), threads.num_threads(5):
        assert threads.get_num_threads() == 5
        raise KeyError
    assert threads.get_num_threads() == 3


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({"FASTCONV_NUM_THREADS": "5", "OMP_NUM_THREADS": "2"}, 5),
        ({"OMP_NUM_THREADS": "2"}, 2),
        ({"FASTCONV_NUM_THREADS": "0", "OMP_NUM_THREADS": "4,2"}, None),
        ({"FASTCONV_NUM_THREADS": "many"}, None),
    ],
)
def test_environment(monkeypatch, environment, expected):
    for name in ("FASTCONV_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert threads._default_threads() == (expected or cores)


def compute():
    """Whether the pool and a compiled kernel give what they should, on three threads."""
    with threads.num_threads(3):
        counts = [0] * 40
        threads.parallel_for(count_up, 40, LONG, counts)
    x = np.arange(24, dtype="float32").reshape(2, 3, 4)
    indices = np.array([3, 0, 2]).repeat(6).reshape(2, 3, 3)
    return counts == [1] * 40 and np.array_equal(pool.pool_gather(x, indices), np.take_along_axis(x, indices, axis=2))


def exit_code_of_fork():
    """Fork; the child computes, and exits with 0 if that went well within a minute."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if compute() else 1)
        finally:
            os._exit(2)
    for _ in range(600):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return "hung"


@pytest.mark.skipif(not HAS_FORK, reason="this system has no fork")
def test_fork_after_the_pool_has_started():
    assert compute()
    assert exit_code_of_fork() == 0
    assert compute()


@pytest.mark.skipif(not HAS_FORK, reason="this system has no fork")
def test_fork_while_others_compute():
    assert compute()
    stop, failures = threading.Event(), []

    def call():
        while not stop.is_set():
            if not compute():
                failures.append(1)

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    try:
        codes = [exit_code_of_fork() for _ in range(5)]
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    assert codes == [0] * 5
    assert not failures


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {method}")
    assert compute()
    with multiprocessing.get_context(method).Pool(2) as workers:
        results = [workers.apply_async(compute) for _ in range(4)]
        assert all(result.get(timeout=120) for result in results)


SCRIPT = """
import numpy as np
from fastconv.cpu import jit, pool
{before}
x = np.arange(6.0).reshape(1, 1, 6)
y = pool.pool_gather(x, np.array([[[5, 0, 3]]]))
assert y.tolist() == [[[5.0, 0.0, 3.0]]], y
{after}
"""


def run_script(folder, before="", after="", **environment):
    """A process of its own that compiles and runs one kernel of the package in `folder`."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "FASTCONV_", "XDG_", "PYTHON"))}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(before=before, after=after)],
        cwd=folder, env=clean | environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


@pytest.fixture
def package(tmp_path):
    """A folder with a copy of the package that has no place for caches, and a path where no folder can be made.

    Files stand where folders would have to be: unlike permissions they stop an administrator, too.
    """
    source = pathlib.Path(threads.__file__).parents[1]
    copy = tmp_path / "copy" / "fastconv"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    (copy / "cpu" / "__pycache__").write_text("no folder")
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    return copy.parent, str(blocked / "below")


def test_nowhere_to_keep_kernels(package):
    folder, blocked = package
    no_home = {"HOME": blocked, "XDG_CACHE_HOME": blocked, "LOCALAPPDATA": blocked}
    run_script(folder, after="assert jit.cache_folder() is None", **no_home)
    run_script(folder, after="assert jit.cache_folder() is None", NUMBA_CACHE_DIR=blocked, **no_home)


def test_kernels_are_kept_in_the_users_folder(package, tmp_path):
    folder, _ = package
    home = tmp_path / "home"
    run_script(folder, HOME=str(home), XDG_CACHE_HOME=str(home), LOCALAPPDATA=str(home))
    assert list(home.rglob("*gather*.nbc"))


def test_kernels_on_disk_are_damaged(package, tmp_path):
    folder, _ = package
    cache = tmp_path / "cache"
    run_script(folder, NUMBA_CACHE_DIR=str(cache))
    for damage in (b"", b"no index", b"\x80\x05"):
        for index in cache.rglob("*.nbi"):
            index.write_bytes(damage)
        run_script(folder, NUMBA_CACHE_DIR=str(cache))


def test_the_disk_goes_away(package, tmp_path):
    folder, _ = package
    cache = tmp_path / "cache"
    remove = f"import pathlib, shutil; shutil.rmtree({str(cache)!r}); pathlib.Path({str(cache)!r}).write_text('')"
    run_script(folder, before=remove, NUMBA_CACHE_DIR=str(cache))


def test_the_cache_can_be_switched_off(package, tmp_path):
    folder, _ = package
    cache = tmp_path / "cache"
    run_script(folder, after="assert jit.cache_folder() is None", NUMBA_CACHE_DIR=str(cache), FASTCONV_NUMBA_CACHE="0")
    assert not cache.exists()
    run_script(folder, after=f"assert jit.cache_folder().startswith({str(cache)!r})", NUMBA_CACHE_DIR=str(cache))
    assert list(cache.rglob("*gather*.nbc"))
