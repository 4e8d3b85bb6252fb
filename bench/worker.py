"""The process that one library runs in: `python -m bench.worker ENGINE`, JSON lines in and out.

Each line of standard input is {"request": name, ...}, each is answered by one line, {"ok": value} or
{"error": text}. At the start the worker sends one answer of its own: the engine's version, or why
there is none. Requests:

    prepare case            make operands and the call; drops what was prepared before
    result path             compute once and save as path/y.npy; with "magnitude", also path/scale.npy
    warm seconds            call for that long, at least twice -> seconds of the fastest call
    time calls              one call untimed, then so many timed -> seconds per call
    peak dtype seconds      best of many matrix products -> operations per second
    operator case           make a bench.operator.Operator the call
    network network batch layout learning
                            make a training step, or inference, of a network of bench.networks the call
    results path            compute loss and gradients, or y, of the network once and save them as path/results.npz
    memory steps            bytes that so many calls need at their peak beyond what was held before -> bytes, method
"""

import ctypes
import gc
import json
import os
import pathlib
import sys
import time

import numpy

from bench.engines import Case
from bench.libraries import engine
from bench.operator import Operator


class Server:
    """Answers the requests of one process.

    Args:
        library: An engine.
    """

    def __init__(self, library):
        self._engine = library
        self._job = None
        self._call = None

    def answer(self, message):
        """The value that answers one message."""
        arguments = dict(message)
        return getattr(self, f"on_{arguments.pop('request')}")(**arguments)

    def on_prepare(self, case):
        """Make operands and the call of a case."""
        self._job = self._call = None  # frees the operands of the case before
        self._job = self._engine.prepare(Case.from_json(case))
        self._call = self._job.call

    def on_result(self, path, magnitude):
        """Save what the call computes, for comparison."""
        folder = pathlib.Path(path)
        numpy.save(folder / "y.npy", self._job.to_numpy(self._call()))
        if magnitude:
            numpy.save(folder / "scale.npy", self._job.to_numpy(self._job.magnitude()))

    def on_warm(self, seconds):
        """Call until compilers, caches and thread pools have settled."""
        best, start, calls = float("inf"), time.perf_counter(), 0
        while calls < 2 or time.perf_counter() - start < seconds:
            best = min(best, self._engine.clock.seconds(self._call, 1))
            calls += 1
        return best

    def on_time(self, calls):
        """Seconds per call, over so many calls."""
        self._call()  # the other library has just had the caches: neither is charged for that
        return self._engine.clock.seconds(self._call, calls)

    def on_peak(self, dtype, seconds):
        """Operations per second of the best matrix product."""
        products, operations = self._engine.products(dtype)
        best, start, calls = float("inf"), time.perf_counter(), 0
        while calls < 6 or time.perf_counter() - start < seconds:
            best = min(best, self._engine.clock.seconds(products[calls % len(products)], 1))
            calls += 1
        return operations / best

    def on_operator(self, case):
        """Make operands and the call of an operator."""
        self._job = self._call = None
        self._job = self._engine.operator(Operator.from_json(case))
        self._call = self._job.call

    def on_network(self, network, batch, layout, learning):
        """Make a training step, or inference, of a network the call."""
        self._job = self._call = None
        self._job = self._engine.network(network, batch, layout, learning)
        self._call = self._job.call

    def on_results(self, path):
        """Save what the network computes, for comparison."""
        numpy.savez(pathlib.Path(path) / "results.npz", **self._job.results())

    def on_memory(self, steps):
        """Peak of resident memory over some calls, above what was resident before them."""
        gc.collect()
        _trim()
        if _reset_peak():
            before, peak, method = _status("VmRSS"), lambda: _status("VmHWM"), "VmHWM after reset"
        else:
            before, peak, method = _highest(), _highest, "ru_maxrss, never reset: a lower bound"
        for _ in range(steps):
            self._call()
        return {"bytes": max(0, peak() - before), "method": method}


def _trim():
    """Give freed memory back to the system, so that it does not hide in what is held before."""
    blocks = sys.modules.get("fastconv.blocks")
    if blocks is not None:
        blocks.release()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return  # not glibc: nothing to trim


def _reset_peak():
    """Set the kernel's high-water mark of this process to what is resident now; False where that cannot be done."""
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status(field):
    """A memory field of /proc/self/status in bytes."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def _highest():
    """ru_maxrss in bytes."""
    import resource  # POSIX only

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def serve(name, lines, write):
    """Answer every line until there are no more.

    Args:
        name: Name of the engine.
        lines: Iterable of JSON texts.
        write: Called with the JSON text of each answer.
    """
    try:
        library = engine(name)
    except ImportError as error:
        write(json.dumps({"error": f"{type(error).__name__}: {error}"}))
        return
    write(json.dumps({"ok": {"engine": name, "version": library.version}}))
    server = Server(library)
    with library.active():
        for line in lines:
            try:
                reply = {"ok": server.answer(json.loads(line))}
            except Exception as error:  # whatever a library raises belongs to the row, not to this process
                reply = {"error": f"{type(error).__name__}: {error}"}
            write(json.dumps(reply))


def main():
    """Serve on the standard streams."""
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not get among the answers
    serve(sys.argv[1], sys.stdin, lambda text: print(text, file=answers, flush=True))


if __name__ == "__main__":
    main()
