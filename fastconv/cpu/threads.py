"""The thread pool that runs kernels.

Kernels run without the GIL, so plain Python threads share their tasks: a caller and its workers take
chunks of tasks from a common counter until none is left, which also serves a machine with busy
neighbours. A task writes what no other task writes and does not know how many threads there are, so
results do not depend on their number.

There is no OpenMP here: a process may fork at any time (the child starts a pool of its own), and any
number of Python threads may call in at once.
"""

import contextlib
import itertools
import os
import queue
import threading

from fastconv.errors import DTypeError, ShapeError

# Waking the workers and waiting for the last costs some 40 microseconds: shorter calls stay in one thread.
SERIAL_NANOSECONDS = 100_000
_CHUNKS_PER_THREAD = 4


def _default_threads():
    """FASTCONV_NUM_THREADS, else OMP_NUM_THREADS, else the cores that this process may run on."""
    for name in ("FASTCONV_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "")
        if value.isdecimal() and int(value) > 0:
            return int(value)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_count = _default_threads()
_lock = threading.Lock()
_jobs = queue.SimpleQueue()
_workers = 0


def get_num_threads():
    """How many threads compute a call on the CPU.

    Returns:
        The number, the caller's own thread included.
    """
    return _count


def set_num_threads(count):
    """Choose how many threads compute a call on the CPU; results do not depend on it.

    Args:
        count: The number, the caller's own thread included; 1 computes in the caller alone.

    Raises:
        ShapeError: count is below 1.
        DTypeError: count is no int.
    """
    global _count
    if isinstance(count, bool) or not isinstance(count, int):
        raise DTypeError("set_num_threads", "count", f"{type(count).__name__} {count!r}", "an int")
    if count < 1:
        raise ShapeError("set_num_threads", "count", count, "at least 1")
    _count = count


@contextlib.contextmanager
def num_threads(count):
    """Within the block, compute on the CPU with this many threads.

    Args:
        count: As for set_num_threads.
    """
    before = _count
    set_num_threads(count)
    try:
        yield
    finally:
        set_num_threads(before)


@contextlib.contextmanager
def every_call_shared():
    """Within the block, even the shortest work is shared by all threads, so that comparing their numbers compares."""
    global SERIAL_NANOSECONDS
    before = SERIAL_NANOSECONDS
    SERIAL_NANOSECONDS = 0
    try:
        yield
    finally:
        SERIAL_NANOSECONDS = before


class _Job:
    """One kernel and the tasks that are left of it."""

    def __init__(self, kernel, tasks, chunk, args):
        self.kernel = kernel
        self.tasks = tasks
        self.chunk = chunk
        self.args = args
        self.starts = itertools.count(0, chunk)  # next() on it is atomic
        self.finished = queue.SimpleQueue()  # None or an exception for every chunk that a worker ran

    def run(self, report):
        """Take chunks until none is left; give how many were run."""
        ran = 0
        while (first := next(self.starts)) < self.tasks:
            error = None
            try:
                self.kernel(first, min(first + self.chunk, self.tasks), *self.args)
            except BaseException as caught:  # handed to the thread that waits for this chunk
                error = caught
            ran += 1
            if report:
                self.finished.put(error)
            elif error is not None:
                raise error
        return ran


def parallel_for(kernel, tasks, nanoseconds, *args):
    """Run kernel(first, last, *args) over all tasks from 0 to `tasks`, in chunks, on all threads.

    Args:
        kernel: A compiled function that releases the GIL and writes for each task what no other task writes.
        tasks: How many tasks there are.
        nanoseconds: About how long one thread would need for all of them; short work stays in the caller's thread.
        args: What else the kernel takes.
    """
    threads = min(_count, tasks)
    if threads < 2 or nanoseconds < SERIAL_NANOSECONDS:
        if tasks > 0:
            kernel(0, tasks, *args)
        return
    chunk = max(1, tasks // (threads * _CHUNKS_PER_THREAD))
    job = _Job(kernel, tasks, chunk, args)
    _ensure_workers(threads - 1)
    for _ in range(threads - 1):
        _jobs.put(job)
    ran = job.run(report=False)
    errors = [job.finished.get() for _ in range(-(-tasks // chunk) - ran)]
    for error in errors:
        if error is not None:
            raise error


def _ensure_workers(wanted):
    global _workers
    with _lock:
        while _workers < wanted:
            threading.Thread(target=_work, args=(_jobs,), name=f"fastconv-{_workers}", daemon=True).start()
            _workers += 1


def _work(jobs):
    while True:
        jobs.get().run(report=True)


def _after_fork():
    """Threads do not survive a fork: the child starts with none, and with locks that nobody holds."""
    global _lock, _jobs, _workers
    _lock = threading.Lock()
    _jobs = queue.SimpleQueue()
    _workers = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
