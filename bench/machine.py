"""Facts of the machine that a result means nothing without."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import time

from bench.process import ROOT


def default_threads():
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def facts(threads, gpu=False):
    """CPU, cores, versions, commit, threads and time of day, as a dict for JSON.

    Args:
        threads: Threads of every library.
        gpu: Whether the first GPU and its driver belong to it: the keys gpu and driver.
    """
    return {
        **(_gpu() if gpu else {}),
        "cpu": _cpu_model(),
        "cores": default_threads(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "commit": _commit(),
        "threads": threads,
        "timestamp": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


_PACKAGES = ("numpy", "numba", "torch", "onnxruntime", "cupy-cuda13x", "cupy-cuda12x", "ml_dtypes")
_ROUNDING = 0.03  # seconds: the system counts in ticks of 10 ms, and rounds for every process


class Others:
    """How many cores other processes took while something was timed.

    A busy neighbour does not slow two libraries alike: one whose threads wait for each other loses a
    time slice of the scheduler at every barrier, so that not even a ratio of pairs survives it.

    Args:
        pids: Processes that are ours, beside this one.
    """

    def __init__(self, pids):
        self._pids = [os.getpid(), *pids]
        self._start = self._read()

    def cores(self):
        """Cores that others took on average since the start, or None where the system does not tell."""
        now = self._read()
        if now is None or self._start is None:
            return None
        (clock, busy, ours), (clock0, busy0, ours0) = now, self._start
        return max(0.0, busy - busy0 - (ours - ours0) - _ROUNDING) / max(clock - clock0, 1e-9)

    def _read(self):
        """(wall clock, seconds all cores were busy, seconds our processes were), of which the last two count ticks."""
        try:
            fields = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:]
            ticks = [pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in self._pids]
        except OSError:
            return None
        # user nice system idle iowait irq softirq steal: all but idle and iowait is taken by somebody
        busy = sum(int(value) for i, value in enumerate(fields[:8]) if i not in (3, 4))
        tick = 1 / os.sysconf("SC_CLK_TCK")
        return time.perf_counter(), busy * tick, sum(int(t[11]) + int(t[12]) for t in ticks) * tick


def _cpu_model():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _gpu():
    """Name, driver and compute capability of the first GPU as nvidia-smi tells them; None where it does not."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader", "--id=0"]
    try:
        line = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        line = ""
    fields = [field.strip() for field in line.split(",")]
    return dict(zip(("gpu", "driver", "compute_capability"), fields if len(fields) == 3 else [None] * 3, strict=True))


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit():
    """The commit of the checkout, with "+changes" where files differ from it; None outside a checkout."""
    try:
        commit = _git("rev-parse", "HEAD")
        return f"{commit}+changes" if _git("status", "--porcelain") else commit
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments):
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
