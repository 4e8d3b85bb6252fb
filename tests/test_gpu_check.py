"""The logic of `make gpu-check`, with stand-ins for its steps: none of it needs a GPU."""

import json
import sys
import time

import pytest

from bench import gpu_check, gpu_work
from bench.gpu_check import Result, Step
from fastconv import reference

FACTS = {
    "gpu": "Example | GPU", "driver": "580.1", "compute_capability": "9.0", "commit": "abc", "timestamp": "now",
    "python": "3.12", "versions": {"numpy": "2.4", "torch": None},
}  # fmt: skip


def python(code, name="step", seconds=30, needs=(), variables=None):
    return Step(name, seconds, (sys.executable, "-c", code), needs, variables or {})


def run_all(*todo, lacks=None, **options):
    return gpu_check.run_all(todo, lacks or {}, say=lambda line: None, **options)


def test_a_step_says_how_it_ended():
    good, bad = run_all(python("print(1); print('== 3 passed ==')"), python("print('why'); raise SystemExit(3)"))
    assert (good.status, good.note) == ("ok", "3 passed")
    assert (bad.status, bad.note, bad.tail) == ("FAILED", "exit status 3", ("why",))


def test_a_step_gets_its_variables():
    (result,) = run_all(python("import os; print(os.environ['FASTCONV_CUDA'])", variables={"FASTCONV_CUDA": "on"}))
    assert result.note == "on"


def test_a_step_over_its_budget_is_ended_with_all_that_it_started(tmp_path):
    pid = tmp_path / "pid"
    child = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    code = f"import subprocess, sys; print('begun', flush=True); subprocess.run([sys.executable, '-c', {child!r}])"
    start = time.monotonic()
    (result,) = run_all(python(code, seconds=2))
    assert time.monotonic() - start < 20
    assert (result.status, result.note, result.tail) == ("TIMEOUT", "ended after 2 s", ("begun",))
    deadline = time.monotonic() + 5
    while is_running(int(pid.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(int(pid.read_text()))


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_steps_that_lack_something_are_skipped_and_say_why():
    lacks = {"torch": "torch is not installed", "sanitizer": "compute-sanitizer is not on PATH"}
    built, skipped = run_all(python(""), python("", needs=("torch", "cupy", "sanitizer")), lacks=lacks)
    assert built.status == "ok"
    assert (skipped.status, skipped.note) == ("skipped", "torch is not installed; compute-sanitizer is not on PATH")


def test_nothing_runs_on_a_build_that_failed():
    _, after = run_all(python("raise SystemExit(1)", name="build"), python(""))
    assert (after.status, after.note) == ("skipped", "build did not succeed")


def test_the_budget_of_all_steps_is_kept():
    _, slow, after = run_all(python(""), python("import time; time.sleep(60)"), python(""), seconds=3)
    assert slow.status == "TIMEOUT"
    assert (after.status, after.note) == ("skipped", "the 3 s of all steps are used up")


def test_a_program_that_is_not_there_is_a_failure():
    (result,) = run_all(Step("build", 5, ("no-such-program",)))
    assert result.status == "FAILED"
    assert "no-such-program" in result.note


def test_the_report_names_machine_results_and_failures(tmp_path):
    results = [Result("build", "ok", 3.25, "a | b"), Result("check", "FAILED", 1, "exit status 1", ("line",))]
    gpu_check.write(tmp_path, FACTS, results)
    text = tmp_path.joinpath("check.md").read_text()
    assert "Commit abc, now; driver 580.1, compute capability 9.0; numpy 2.4; Python 3.12" in text
    assert "| build | ok | 3.2 | a \\| b |" in text
    assert "## check: exit status 1\n\n```\nline\n```" in text
    document = json.loads(tmp_path.joinpath("check.json").read_text())
    assert (document["commit"], document["steps"][1]["tail"]) == ("abc", ["line"])


class Here:
    """A machine with a GPU of Hopper's kind."""

    facts, lacks = FACTS, {}
    architecture = gpu_check.Machine.architecture


def test_budgets_fit_and_the_build_comes_first(tmp_path):
    todo = gpu_check.steps(Here(), tmp_path)
    assert todo[0].name == "build"
    assert todo[0].variables["FASTCONV_CUDA_ARCHS"] == "90a-real"
    assert sum(step.seconds for step in todo) <= gpu_check.TOTAL_SECONDS < 9 * 60
    assert len({step.name for step in todo}) == len(todo)


def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_check.main(["--output", str(tmp_path / "results")]) == 2
    assert "nvidia-smi finds no GPU; nothing was checked" in capsys.readouterr().err
    assert not tmp_path.joinpath("results").exists()


def test_the_command_runs_chosen_steps_and_writes_the_report(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, "Machine", Here)
    todo = [python("", "build"), python("print('fine')", "check"), python("raise SystemExit(1)", "tests")]
    monkeypatch.setattr(gpu_check, "steps", lambda here, folder: todo)
    assert gpu_check.main(["--output", str(tmp_path), "--only", "check"]) == 0
    assert [step["name"] for step in json.loads(tmp_path.joinpath("check.json").read_text())["steps"]] == [
        "build",
        "check",
    ]
    assert gpu_check.main(["--output", str(tmp_path)]) == 1


# ---- the work of single steps, on a backend that runs anywhere


@pytest.mark.parametrize("large", [False, True])
def test_the_selection_has_every_operator_in_both_formats(large):
    chosen = gpu_work.selection(large)
    assert {case.operator for case in chosen} >= {"conv_forward", "max_pool_forward", "batch_norm_grad", "matmul"}
    keys = [(case.operator, case.dtype, case.storage) for case in chosen]
    assert len(set(keys)) == len(keys)
    assert sum(case.work for case in chosen) > 0


@pytest.fixture
def few(monkeypatch):
    matmuls = [case for case in gpu_work.selection(large=False) if case.operator == "matmul"]
    monkeypatch.setattr(gpu_work, "selection", lambda large: matmuls)
    return matmuls


def test_the_same_bits_twenty_times_pass(few, capsys):
    assert gpu_work.main(["repeat", "--backend", "reference"]) == 0
    assert capsys.readouterr().out == f"{len(few)} cases, 20 runs each: 0 differ\n"


def test_other_bits_in_one_run_of_twenty_fail(few, monkeypatch, capsys):
    right, calls = reference.matmul, []

    def wrong(a, b):
        calls.append(a)
        return right(a, b) + (len(calls) % 20 == 19)

    monkeypatch.setattr(reference, "matmul", wrong)
    assert gpu_work.main(["repeat", "--backend", "reference"]) == 1
    assert "differs from run to run: matmul float" in capsys.readouterr().out


def test_every_case_runs_once(few, capsys):
    assert gpu_work.main(["once", "--backend", "reference"]) == 0
    assert capsys.readouterr().out == f"{len(few)} cases ran\n"


def test_info_fails_where_the_backend_cannot_be_used(capsys):
    assert gpu_work.main(["info", "--backend", "reference"]) == 0
    assert "the reference backend can be used" in capsys.readouterr().out
