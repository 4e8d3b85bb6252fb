"""`make gpu-check`: everything that needs a GPU, in one go and under nine minutes.

Each step runs in a process of its own and within a budget; a step that lacks something is skipped, and the report
says why. Results go to bench/results/<gpu>/: check.md to read, check.json with the end of every step's output, and what
the benchmarks wrote.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import NamedTuple

from bench import machine
from bench.process import ROOT

TOTAL_SECONDS = 530
_TAIL = 40  # lines of a step's output that are kept


class Step(NamedTuple):
    """One thing to run.

    Attributes:
        name: A word.
        seconds: Its budget.
        command: Words of the command line.
        needs: Names of Machine.lacks that the step cannot do without.
        variables: Environment variables that it gets besides ours.
    """

    name: str
    seconds: float
    command: tuple
    needs: tuple = ()
    variables: dict = {}  # noqa: RUF012 -- never changed


class Result(NamedTuple):
    """What became of a step.

    Attributes:
        name: Of the step.
        status: "ok", "FAILED", "TIMEOUT" or "skipped".
        seconds: What it took.
        note: Why it was skipped, or how it ended.
        tail: The last lines of its output.
    """

    name: str
    status: str
    seconds: float = 0.0
    note: str = ""
    tail: tuple = ()


class Machine:
    """What is here to check with.

    Attributes:
        facts: Dict of GPU, driver, versions, commit and time.
        lacks: Name of a part -> why it is not here; parts that are here are not in it.
    """

    def __init__(self):
        self.facts = machine.facts(machine.default_threads(), gpu=True)
        parts = {
            "gpu": (self.facts["gpu"], "nvidia-smi finds no GPU"),
            "sanitizer": (_sanitizer(), "compute-sanitizer is neither on PATH nor in the CUDA toolkit"),
            **{
                name: (importlib.util.find_spec(name), f"{name} is not installed")
                for name in ("cupy", "torch", "pytest")
            },
            "primitives": (ROOT.joinpath("tests", "test_device.py").exists(), "there is no tests/test_device.py"),
        }
        self.lacks = {name: why for name, (found, why) in parts.items() if not found}

    @property
    def architecture(self):
        """The GPU's architecture in CMake's names; Hopper's own instructions need its "a"."""
        digits = self.facts["compute_capability"].replace(".", "")
        return "90a-real" if digits == "90" else f"{digits}-real"


def steps(here, folder):
    """The Steps of a check.

    Args:
        here: A Machine.
        folder: Where results go.
    """
    python, work = sys.executable, (sys.executable, "-m", "bench.gpu_work")
    build = {"FASTCONV_CUDA": "on", "FASTCONV_EMULATOR": "off", "FASTCONV_CUDA_ARCHS": here.architecture}
    workers = str(max(1, machine.default_threads() // 2))
    listed = [
        Step("build", 120, (python, "setup.py", "--quiet", "build_ext", "--inplace"), ("gpu",), build),
        Step("info", 15, (*work, "info"), ("cupy",)),
        Step(
            "primitives", 20, (python, "-m", "pytest", "-q", "tests/test_device.py"), ("pytest", "primitives", "cupy")
        ),
        Step(
            "check",
            80,
            (
                python,
                "-m",
                "fastconv",
                "check",
                "--backend",
                "cuda",
                "--quick",
                "--json",
                str(folder / "operators.json"),
            ),
            ("cupy",),
        ),
        Step("same bits", 25, (*work, "repeat"), ("cupy",)),
    ]
    for tool in ("memcheck", "racecheck", "initcheck"):
        command = (_sanitizer() or "compute-sanitizer", "--tool", tool, "--error-exitcode", "9", *work, "once")
        listed.append(Step(tool, 30, command, ("sanitizer", "cupy")))
    for dtype in ("float32", "float16"):
        written = ("--json", str(folder / f"resnet50-{dtype}.json"))
        command = (
            python,
            "-m",
            "bench",
            "run",
            "--backend",
            "cuda",
            "--peer",
            "torch",
            "--suite",
            "resnet50",
            "--quick",
        )
        listed.append(Step(f"bench {dtype}", 40, (*command, "--dtype", dtype, *written), ("cupy", "torch")))
    listed.append(Step("tests", 80, (python, "-m", "pytest", "-q", "-n", workers, "tests"), ("pytest", "cupy")))
    return listed


def run_all(todo, lacks, seconds=TOTAL_SECONDS, say=print):
    """Run steps one after the other; the first one makes what the others use.

    Args:
        todo: Steps.
        lacks: As of Machine.
        seconds: Budget of all of them together.
        say: Called with a line for each.

    Returns:
        A list of Results, one a step.
    """
    results, end = [], time.monotonic() + seconds
    for step in todo:
        left = end - time.monotonic()
        missing = [lacks[part] for part in step.needs if part in lacks]
        if missing:
            result = Result(step.name, "skipped", note="; ".join(missing))
        elif results and results[0].status != "ok":
            result = Result(step.name, "skipped", note=f"{results[0].name} did not succeed")
        elif left < 1:
            result = Result(step.name, "skipped", note=f"the {seconds:.0f} s of all steps are used up")
        else:
            result = run_step(step, min(step.seconds, left))
        results.append(result)
        say(f"{result.name:13} {result.status:8} {result.seconds:6.1f} s  {result.note}")
    return results


def run_step(step, seconds):
    """Run one step, with all that it starts, for so many seconds at most.

    Returns:
        The Result.
    """
    start = time.monotonic()
    try:
        process = subprocess.Popen(
            step.command,
            cwd=ROOT,
            env={**os.environ, **step.variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return Result(step.name, "FAILED", note=str(error))
    try:
        output, _ = process.communicate(timeout=seconds)
        status, note = ("ok", "") if process.returncode == 0 else ("FAILED", f"exit status {process.returncode}")
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the session that it leads: its own children too
        output, _ = process.communicate()
        status, note = "TIMEOUT", f"ended after {seconds:.0f} s"
    tail = tuple(output.rstrip().splitlines()[-_TAIL:])
    if status == "ok" and tail:
        note = tail[-1].strip(" =")
    return Result(step.name, status, time.monotonic() - start, note, tail)


def markdown(facts, results):
    """The report to read."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if version)
    rows = [f"| {r.name} | {r.status} | {r.seconds:.1f} | {_cell(r.note)} |" for r in results]
    failed = [r for r in results if r.status in ("FAILED", "TIMEOUT")]
    details = [f"\n## {r.name}: {r.note}\n\n```\n" + "\n".join(r.tail) + "\n```" for r in failed]
    lines = [
        f"# Check on {facts['gpu']}",
        "",
        f"Commit {facts['commit']}, {facts['timestamp']}; driver {facts['driver']}, compute capability "
        f"{facts['compute_capability']}; {versions}; Python {facts['python']}. Written by `make gpu-check`.",
        "",
        "| step | result | seconds | what it said |",
        "| --- | --- | --- | --- |",
        *rows,
        *details,
    ]
    return "\n".join(lines) + "\n"


def write(folder, facts, results):
    """Write check.md and check.json."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.joinpath("check.md").write_text(markdown(facts, results), encoding="utf-8")
    document = {**facts, "steps": [r._asdict() for r in results]}
    folder.joinpath("check.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _sanitizer():
    """Path of compute-sanitizer, or None."""
    toolkits = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    folders = [os.environ.get("PATH", ""), *(str(pathlib.Path(toolkit, "bin")) for toolkit in toolkits if toolkit)]
    return shutil.which("compute-sanitizer", path=os.pathsep.join(folders))


def _cell(text):
    return text.replace("|", "\\|")


def main(arguments=None):
    """Run the command.

    Returns:
        The exit status: 0 if no step failed, 1 if one did, 2 where there is no GPU.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.gpu_check", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, metavar="FOLDER", help="instead of bench/results/<gpu>")
    parser.add_argument("--only", metavar="STEPS", help="names of steps, such as build,check; build is never left out")
    parser.add_argument("--seconds", type=float, default=TOTAL_SECONDS, help="budget of all steps together")
    options = parser.parse_args(arguments)
    here = Machine()
    if "gpu" in here.lacks:
        print(f"gpu-check: {here.lacks['gpu']}; nothing was checked", file=sys.stderr)
        return 2
    name = re.sub(r"[^a-z0-9]+", "-", here.facts["gpu"].lower()).strip("-")
    folder = (options.output or ROOT / "bench" / "results" / name).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    todo = steps(here, folder)
    if options.only:
        todo = [todo[0], *(step for step in todo[1:] if step.name in options.only.split(","))]
    print(f"{here.facts['gpu']}, driver {here.facts['driver']}, commit {here.facts['commit']}")
    results = run_all(todo, here.lacks, options.seconds)
    write(folder, here.facts, results)
    print(f"wrote {folder}")
    return int(any(result.status in ("FAILED", "TIMEOUT") for result in results))


if __name__ == "__main__":
    sys.exit(main())
