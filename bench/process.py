"""A worker process as seen from the one that compares."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

from fastconv.errors import FastconvError

ROOT = pathlib.Path(__file__).resolve().parent.parent

_ANSWER_SECONDS = 600


class WorkerError(FastconvError, RuntimeError):
    """A worker refused a request, died, or did not answer in time."""


def environment(threads):
    """Environment of a worker: so many threads in every library, which sleep while the other library works."""
    count = str(threads)
    names = ("OMP", "MKL", "OPENBLAS", "NUMBA", "FASTCONV")
    path = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(ROOT)])
    return {
        **os.environ,
        **{f"{name}_NUM_THREADS": count for name in names},
        "OMP_WAIT_POLICY": "passive",
        "PYTHONPATH": path,
    }


class Worker:
    """One library in a process of its own; a context manager.

    Args:
        engine: "torch" or a backend of fastconv.
        threads: Threads of every library in that process.

    Raises:
        WorkerError: The library cannot be imported there.
    """

    def __init__(self, engine, threads):
        self.engine = engine
        self._threads = threads
        self._process = None
        self._start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _start(self):
        # Closed by close(): it has to outlive this call as the process does.
        self._errors = tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", self.engine],
            env=environment(self._threads),
            cwd=ROOT,
            text=True,
            encoding="utf-8",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        try:
            self.version = self._receive("start")["version"]
        except WorkerError:
            self.close()
            raise

    @property
    def pid(self):
        """Its process id, which changes when a lost worker is replaced."""
        return self._process.pid

    def request(self, name, **arguments):
        """Send a request and wait for its answer.

        Args:
            name: A request of bench.worker.
            arguments: What it takes.

        Returns:
            The value of the answer.

        Raises:
            WorkerError: The worker answers with an error, or not at all; in that case it is started anew.
        """
        try:
            self._process.stdin.write(json.dumps({"request": name, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._lost(name)
        return self._receive(name)

    def _receive(self, name):
        timer = threading.Timer(_ANSWER_SECONDS, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            self._lost(name)
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{self.engine} worker", name, answer["error"], "an answer")
        return answer["ok"]

    def _lost(self, name):
        """Say why the process ended, with its last words, and replace it."""
        code = self._process.wait()
        self._errors.seek(0)
        words = " | ".join(self._errors.read().strip().splitlines()[-3:])
        self.close()
        if name != "start":
            self._start()
        raise WorkerError(f"{self.engine} worker", name, f"exit code {code}: {words}", "an answer")

    def close(self):
        """End the process."""
        if self._process is None:
            return
        process, self._process = self._process, None
        with contextlib.suppress(BrokenPipeError):  # a request that a lost process never read is still in the buffer
            process.stdin.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        self._errors.close()
