"""The benchmark on a GPU: what of it can be tested without one."""

import os
from types import SimpleNamespace

import numpy
import pytest

from bench import __main__ as command
from bench import clocks, machine, run, shapes
from bench.engines import Case, FastconvEngine

TINY = shapes.suite("tiny")


class Gpu:
    """Events that happen when they are recorded, on a GPU whose time is counted in calls."""

    def __init__(self):
        self.log, self.now = [], 0

    def event(self):
        made = SimpleNamespace(at=None)

        def record():
            self.log.append("record")
            made.at = self.now

        made.record = record
        return made

    def clock(self):
        return clocks.EventClock(
            self.event,
            lambda start, end: end.at - start.at,
            lambda: self.log.append("flush"),
            lambda: self.log.append("synchronize"),
        )

    def call(self):
        self.log.append("call")
        self.now += 6


def test_events_enclose_the_call_alone_and_every_call_finds_a_cold_cache():
    gpu = Gpu()
    assert gpu.clock().seconds(gpu.call, 3) == pytest.approx(6e-3)
    assert gpu.log == ["flush", "record", "call", "record"] * 3 + ["synchronize"]


def test_a_run_on_the_gpu_compares_with_pytorch_there_and_takes_larger_problems(monkeypatch):
    asked = []
    monkeypatch.setattr(run, "Worker", lambda name, threads: asked.append(name))
    options = command.parser().parse_args(["run", "--suite", "tiny", "--backend", "cuda"])
    run.start_peer(options, 1, print)
    assert asked == ["torch-cuda"]
    assert run.effort(options) == run.GPU
    options.quick, options.gflop = True, 7
    assert run.effort(options) == run.QUICK_GPU._replace(gflop=7)


def test_a_gpu_is_named_by_what_nvidia_smi_says(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA Example, 580.1, 9.0'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    facts = machine.facts(1, gpu=True)
    assert (facts["gpu"], facts["driver"], facts["compute_capability"]) == ("NVIDIA Example", "580.1", "9.0")
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert machine.facts(1, gpu=True)["gpu"] is None


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_the_engine_of_the_gpu_computes_on_arrays_that_lie_there(monkeypatch, layout):
    from bench.engines_cuda import CudaEngine

    moved = []
    engine = CudaEngine.__new__(CudaEngine)
    engine._name, engine._moved = "cpu", lambda array: moved.append(array) or array
    engine._host = numpy.asarray
    case = Case(TINY[0], "forward", layout, "float32")
    job, expected = engine.prepare(case), FastconvEngine("cpu").prepare(case)
    assert len(moved) == 2
    assert job.to_numpy(job.call()).tobytes() == expected.to_numpy(expected.call()).tobytes()
