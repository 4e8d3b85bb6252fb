"""The benchmark's own logic: tables, statistics, comparison, exit codes. Nothing here looks at a time."""

import json
import math
import os
import signal
import subprocess
import sys

import numpy
import pytest

from bench import __main__ as command
from bench import agreement, machine, pairing, report, run, shapes, worker
from bench.engines import Case, FastconvEngine
from bench.process import ROOT, Worker, WorkerError
from fastconv.errors import ShapeError

TINY = shapes.suite("tiny")


# ---- the table of shapes


def test_table_has_every_row():
    assert len(shapes.table()) == 223
    names = [(row["suite"], row["name"]) for row in shapes.table()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("row", shapes.table(), ids=lambda row: f"{row['suite']}/{row['name']}")
def test_row_agrees_with_window(row):
    problem = shapes.from_row(row)
    assert problem.y_shape == (problem.batch, problem.filters, *shapes.sizes(row["out"]))
    assert f"{problem.flops / 1e9:.3f}" == row["GFLOP"]


def test_flops_of_a_convolution_by_hand():
    image = shapes.Problem("by hand", "a", "conv", 2, 4, (5, 5), 6, (3, 3), (1, 1), (1, 1), (1, 1), 2)
    assert image.flops == 2 * (2 * 6 * 5 * 5) * (2 * 3 * 3)
    transposed = image._replace(kind="conv_transpose", size=(3, 3), kernel=(2, 2), stride=(2, 2), padding=(0, 0))
    assert transposed.y_shape == (2, 6, 6, 6)
    assert transposed.flops == 2 * (2 * 4 * 3 * 3) * (3 * 2 * 2)


def test_aliases_name_suites():
    for short, full in shapes.ALIASES.items():
        assert shapes.suite(short) == shapes.suite(full)
    assert len(shapes.suite("all")) == 223


def test_unknown_suite_is_refused():
    with pytest.raises(ShapeError, match="resnet50"):
        shapes.suite("resnet51")


# ---- the cut


@pytest.mark.parametrize("spent", [run.NORMAL, run.QUICK], ids=["normal", "quick"])
def test_cut_keeps_to_the_budget_and_to_the_problem(spent):
    budget = shapes.Budget(None, spent.gflop, spent.mb)
    for problem in shapes.suite("all"):
        small = shapes.cut(problem, budget, 4)
        if small is None:
            continue
        assert budget.holds(small, 4)
        assert small.batch <= min(problem.batch, shapes.DEFAULT_BATCH)
        assert all(s <= p for s, p in zip(small.size, problem.size, strict=True))
        assert small._replace(batch=problem.batch, size=problem.size) == problem


def test_cut_takes_the_batch_first():
    problem = shapes.suite("resnet50")[2]
    one = problem._replace(batch=1).flops / 1e9
    assert shapes.cut(problem, shapes.Budget(4, 2.5 * one, 1e3), 4) == problem._replace(batch=2)
    assert shapes.cut(problem, shapes.Budget(None, 1e3, 1e3), 4).batch == shapes.DEFAULT_BATCH
    assert shapes.cut(problem, shapes.Budget(1, 0.6 * one, 1e3), 4).size == (28, 56)


def test_selection_reports_what_it_leaves_out():
    problem = TINY[1]
    twin = problem._replace(name="twin", batch=problem.batch * 2)
    huge = problem._replace(name="huge", channels=10**6)
    selected = shapes.select([problem, twin, huge], shapes.Budget(problem.batch, 1, 1), 4)
    assert [p.name for p in selected.problems] == [problem.name]
    assert (selected.repeated, selected.too_large, selected.reduced) == (["twin"], ["huge"], 0)


# ---- statistics


def test_ratio_is_taken_pair_by_pair():
    # The machine slows down tenfold for two rounds: the ratio of the medians would be 1.
    timing = pairing.Timing(ours=(1.0, 10.0, 10.0, 1.0, 1.0), peer=(2.0, 20.0, 20.0, 2.0, 1.0))
    assert timing.ratio() == (2.0, 2.0, 2.0)
    assert (timing.ours_ms, timing.peer_ms) == (1000.0, 2000.0)


def test_quartiles_of_the_ratio():
    timing = pairing.Timing(ours=(1.0,) * 5, peer=(5.0, 1.0, 4.0, 2.0, 3.0))
    assert timing.ratio() == (3.0, 2.0, 4.0)


def test_no_ratio_without_a_peer():
    timing = pairing.Timing(ours=(1.0, 3.0), peer=())
    assert timing.ratio() is None
    assert timing.peer_ms is None


def test_geometric_mean():
    assert math.isclose(pairing.geometric_mean([1.0, 10.0, 100.0]), 10.0)
    assert pairing.geometric_mean([]) is None


# ---- comparison of results


def test_equal_results_agree():
    y = numpy.arange(12, dtype="float32").reshape(3, 4) - 5
    assert agreement.compare(y, y, abs(y), 9, "float32") == (True, 0.0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_bound_of_the_comparison(dtype):
    y, scale = numpy.zeros((2, 3)), numpy.full((2, 3), 4.0)
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="bfloat16 arrays need ml_dtypes")
    eps = numpy.finfo("float64" if dtype == "float64" else "float32").eps
    bound = agreement.SUM_FACTOR * 3 * eps
    near, far = y.copy(), y.copy()
    near[1, 2], far[1, 2] = 4 * bound, 4 * bound * 1.1
    assert agreement.compare(near, y, scale, 9, dtype) == (True, bound)
    assert not agreement.compare(far, y, scale, 9, dtype).agrees


def test_length_of_the_sums():
    by_hand = {"sequence": (9, 12, 34), "image": (27, 36, 40), "depthwise": (9, 9, 2 * 81),
               "transposed": (16, 24, 50), "max pool": (9, 9)}  # fmt: skip
    for problem in TINY:
        if problem.name in by_hand:
            assert tuple(problem.terms(d) for d in problem.directions) == by_hand[problem.name]


def test_last_chunk_is_compared(monkeypatch):
    monkeypatch.setattr(agreement, "_CHUNK", 4)
    y = numpy.ones(10, "float32")
    other = y.copy()
    other[9] = 1.5
    assert agreement.compare(other, y, y, 9, "float32") == (False, 0.5)


@pytest.mark.parametrize("value", [numpy.nan, numpy.inf])
def test_what_is_not_finite_disagrees(value):
    y = numpy.ones(3, "float32")
    other = y.copy()
    other[1] = value
    assert agreement.compare(other, y, y, 9, "float32") == (False, math.inf)
    assert agreement.compare(y, other, y, 9, "float32") == (False, math.inf)


def test_other_shape_disagrees():
    y = numpy.ones((2, 2), "float32")
    assert not agreement.compare(y[:1], y, y, 9, "float32").agrees


def test_difference_where_nothing_is_summed_disagrees():
    zero = numpy.zeros(2, "float32")
    assert agreement.compare(zero + 1, zero, zero, 9, "float32") == (False, math.inf)


def test_others_are_counted_without_ourselves(monkeypatch):
    readings = iter([(10.0, 100.0, 40.0), (14.0, 107.0, 45.0 - machine._ROUNDING)])
    monkeypatch.setattr(machine.Others, "_read", lambda self: next(readings))
    assert machine.Others([]).cores() == pytest.approx(0.5)


def test_others_are_unknown_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.setattr(machine.Others, "_read", lambda self: None)
    assert machine.Others([]).cores() is None


def test_disturbed_rows_are_counted():
    case = Case(TINY[0], "forward", "channels_first", "float32")
    rows = [run.Row(case, "ok", others=cores) for cores in (0.0, None, 0.05, 0.9)]
    assert report.summary(rows)["disturbed"] == 1


# ---- the protocol, and a run with workers that live in this process


class InProcess:
    """A Worker without a process: the server of bench.worker called directly, durations made up.

    Args:
        engine: Backend of fastconv.
        seconds: What every call is said to take.
        spoil: Changes the result that is compared.
    """

    def __init__(self, engine, seconds=1.0, spoil=None):
        self.engine, self.version, self.pid = engine, "0", os.getpid()
        self._library = FastconvEngine(engine)
        self._server = worker.Server(self._library)
        self._seconds, self._spoil = seconds, spoil
        self.timed = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def request(self, name, **arguments):
        if name in ("warm", "time", "peak"):
            self.timed += name == "time"
            return self._seconds
        with self._library.active():
            self._server.answer(json.loads(json.dumps({"request": name, **arguments})))
        if name == "result" and self._spoil:
            path = f"{arguments['path']}/y.npy"
            y = numpy.load(path)
            self._spoil(y)
            numpy.save(path, y)
        return None

    def close(self):
        return None


@pytest.fixture
def workers(monkeypatch):
    """Workers by engine that `bench run` gets instead of processes."""
    made = {}
    monkeypatch.setattr(run, "Worker", lambda engine, threads: made.pop(engine))
    return made


def _run(*words):
    return command.main(["run", "--backend", "cpu", "--peer", "reference", "--suite", "tiny", *words])


@pytest.fixture
def pair(workers):
    """Two reference backends as ours and the peer; ours takes half as long."""
    workers["cpu"], workers["reference"] = InProcess("reference", 1.0), InProcess("reference", 2.0)
    return workers["cpu"], workers["reference"]


def test_run_reports_every_case(pair, tmp_path, capsys):
    file = tmp_path / "run.json"
    assert _run("--rounds", "3", "--json", str(file)) == 0
    document = json.loads(file.read_text())
    cases = [(r["problem"]["name"], r["direction"], r["layout"]) for r in document["rows"]]
    expected = [(p.name, d, layout) for p in TINY for d in p.directions for layout in run.LAYOUTS]
    assert cases == expected
    for row in document["rows"]:
        assert row["status"] == "ok"
        assert row["error"] == 0
        assert row["ratio"] == {"median": 2.0, "first_quartile": 2.0, "third_quartile": 2.0}
        assert row["ours_seconds"] == [1.0] * 3
    assert document["summary"]["compared"] == len(expected)
    assert document["machine"]["threads"] >= 1
    assert f"geometric mean 2.00 over {len(expected)} rows" in capsys.readouterr().out


def test_wrong_result_is_named_and_not_timed(workers, capsys):
    def spoil(y):
        y.reshape(-1)[-1] += 0.01

    ours = workers["cpu"] = InProcess("reference", spoil=spoil)
    workers["reference"] = InProcess("reference")
    assert _run("--rows", "image", "--layout", "channels_first", "--direction", "forward") == 1
    assert "WRONG: 1 row: image forward channels_first" in capsys.readouterr().out
    assert ours.timed == 0


def test_failing_row_is_named_and_the_others_run(workers, capsys):
    class Failing(InProcess):
        def request(self, name, **arguments):
            if name == "prepare" and arguments["case"]["direction"] == "input_grad":
                raise WorkerError("cpu worker", name, "exit code -9: ", "an answer")
            return super().request(name, **arguments)

    workers["cpu"], workers["reference"] = Failing("reference"), InProcess("reference")
    assert _run("--rows", "volume", "--layout", "channels_last") == 1
    out = capsys.readouterr().out
    assert "FAILED: 1 row: volume input_grad channels_last" in out
    assert "over 2 rows" in out


def test_row_that_the_peer_refuses_is_timed_alone(workers, capsys):
    class Refusing(InProcess):
        def request(self, name, **arguments):
            if name == "prepare":
                raise WorkerError("reference worker", name, "RuntimeError: not implemented", "an answer")
            return super().request(name, **arguments)

    ours = workers["cpu"] = InProcess("reference")
    workers["reference"] = Refusing("reference")
    assert _run("--rows", "image", "--direction", "forward", "--layout", "channels_first") == 0
    assert ours.timed == run.NORMAL.rounds
    out = capsys.readouterr().out
    assert "no peer: " in out
    assert "1 row timed, none compared" in out


def test_interrupted_run_reports_what_it_has(workers, tmp_path, capsys):
    class Interrupted(InProcess):
        def request(self, name, **arguments):
            if name == "prepare" and arguments["case"]["direction"] == "weight_grad":
                raise KeyboardInterrupt
            return super().request(name, **arguments)

    workers["cpu"], workers["reference"] = Interrupted("reference"), InProcess("reference")
    file = tmp_path / "run.json"
    assert _run("--rows", "image", "--layout", "channels_last", "--json", str(file)) == 130
    assert [row["direction"] for row in json.loads(file.read_text())["rows"]] == ["forward", "input_grad"]
    assert "interrupted after 2 of 3 rows" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", run.DTYPES)
def test_every_dtype_runs(pair, dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="bfloat16 arrays need ml_dtypes")
    assert _run("--dtype", dtype, "--rounds", "1", "--layout", "channels_last") == 0


@pytest.mark.parametrize("suffix, start", [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_plot_is_written(pair, tmp_path, suffix, start):
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    file = tmp_path / f"run.{suffix}"
    assert _run("--rounds", "1", "--rows", "image", "--plot", str(file)) == 0
    assert file.read_bytes().startswith(start)


@pytest.mark.parametrize(
    "words", [["--suite", "resnet51"], ["--rows", "no such row"], ["--plot", "run.doc"]], ids=lambda words: words[0]
)
def test_bad_options_are_refused(words, capsys):
    assert _run(*words) == 2


def test_list_prints_suites_and_rows(capsys):
    assert command.main(["run", "--list"]) == 0
    assert "resnet50-v1" in capsys.readouterr().out
    assert command.main(["run", "--list", "--suite", "unet3d", "--quick"]) == 0
    assert "up4.convT" in capsys.readouterr().out


def test_layouts_hold_equal_numbers_in_other_memory():
    case = Case(TINY[2], "forward", "channels_first", "float32")
    library = FastconvEngine("reference")
    with library.active():
        first, last = (library.prepare(case._replace(layout=layout)) for layout in run.LAYOUTS)
        assert numpy.array_equal(first.to_numpy(first.call()), last.to_numpy(last.call()))


def test_case_survives_json():
    for problem in TINY:
        case = Case(problem, "forward", "channels_last", "float32")
        assert Case.from_json(json.loads(json.dumps(case.to_json()))) == case


def test_worker_answers_errors_and_goes_on():
    said = []
    worker.serve("reference", ['{"request": "warm", "seconds": 0}', '{"request": "time", "calls": 0}'], said.append)
    assert [list(json.loads(text)) for text in said] == [["ok"], ["error"], ["error"]]


# ---- in processes of their own, as a user would


def _command(tmp_path, *words):
    """Run the command where `import torch` fails."""
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")\n")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    words = [sys.executable, "-m", "bench", *words]
    return subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("gone", [False, True], ids=["dying", "gone"])
def test_lost_worker_is_replaced(gone):
    with Worker("reference", 1) as lost:
        os.kill(lost.pid, signal.SIGKILL)
        if gone:  # its end of the pipe is closed, so the request cannot even be written
            os.waitid(os.P_PID, lost.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(WorkerError, match="exit code -9"):
            lost.request("peak", dtype="float32", seconds=0)
        assert lost.request("peak", dtype="float32", seconds=0) > 0


def test_run_without_torch_says_so(tmp_path):
    done = _command(tmp_path, "run", "--backend", "reference", "--suite", "tiny", "--quick", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    assert "torch is not installed" in done.stdout
    assert "38 rows timed, none compared" in done.stdout
    assert done.stderr == ""  # no progress where nobody watches


def test_run_with_two_processes(tmp_path):
    done = _command(
        tmp_path, "run", "--backend", "reference", "--peer", "reference", "--suite", "tiny", "--quick",
        "--rounds", "2", "--rows", "transposed", "--layout", "channels_last",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "over 3 rows" in done.stdout
