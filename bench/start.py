"""`python -m bench start`: what it costs to begin, each figure from processes that do nothing else."""

import json
import statistics
import subprocess
import sys

from bench import machine
from bench.process import ROOT, environment
from bench.report import Progress, save

_HEAVY = ("numba", "scipy", "cupy", "torch")

# Sent to a new interpreter; numpy goes first so that its share is known.
_PROBE = """
import json, sys, time
start = time.perf_counter()
import numpy
after_numpy = time.perf_counter()
import fastconv
after_fastconv = time.perf_counter()
heavy = [name for name in {heavy} if name in sys.modules]
with fastconv.use_backend({backend!r}):
    x = numpy.ones((1, 3, 32, 32), "float32")
    w = numpy.ones((8, 3, 3, 3), "float32")
    before_call = time.perf_counter()
    fastconv.functional.conv2d(x, w, padding=1)
    after_call = time.perf_counter()
print(json.dumps(dict(numpy=after_numpy - start, fastconv=after_fastconv - after_numpy,
                      first_conv2d=after_call - before_call, process=time.process_time(), imported=heavy)))
"""


def start(options):
    """Start several processes, and report the median of what they measured.

    Args:
        options: Options of the command.

    Returns:
        The exit status: 0, or 1 where a heavy library was imported by `import fastconv`.
    """
    repeats = options.rounds or (3 if options.quick else 11)
    facts = machine.facts(options.threads)
    progress = Progress(1)
    progress.case(0, "start")
    probe = _PROBE.format(heavy=_HEAVY, backend=options.backend)
    seen = []
    for repeat in range(repeats + 1):
        progress(f"process {repeat}/{repeats}")
        done = subprocess.run(
            [sys.executable, "-c", probe], cwd=ROOT, env=environment(options.threads), text=True, capture_output=True
        )
        if done.returncode:
            progress.clear()
            print(done.stderr.strip(), file=sys.stderr)
            return 1
        seen.append(json.loads(done.stdout))
    progress.clear()
    seen = seen[1:]  # the first fills caches: byte code and compiled kernels
    words = {
        "numpy": "import numpy",
        "fastconv": "import fastconv, after numpy",
        "first_conv2d": f"first conv2d of a process ({options.backend}, kernels cached)",
        "process": "all of it, with the interpreter: time on a CPU",
    }
    print(f"{facts['cpu']}, {repeats} processes, median (least-most)")
    for key, text in words.items():
        series = [one[key] * 1e3 for one in seen]
        print(f"{text:48}  {statistics.median(series):8.1f} ms  ({min(series):.1f}-{max(series):.1f})")
    imported = sorted({name for one in seen for name in one["imported"]})
    print(f"imported by `import fastconv`: {', '.join(imported) or 'none'} of {', '.join(_HEAVY)}")
    if options.json:
        save(options.json, {"machine": facts, "backend": options.backend, "processes": seen})
    return int(bool(imported))
