"""The self-check catches planted bugs, says which operator has them, and its command line answers as documented."""

import importlib.machinery
import io
import json
import re
import subprocess
import sys
import types

import numpy as np
import pytest

from fastconv import backend, config, reference
from fastconv.check import check, examine, planned
from fastconv.cli import main
from fastconv.errors import DeviceError, ShapeError


@pytest.fixture
def fake(monkeypatch):
    """A backend named emulated whose operators are the reference's, to plant bugs in."""
    module = types.ModuleType("fastconv.emulated")
    module.__spec__ = importlib.machinery.ModuleSpec("fastconv.emulated", None, origin="a test")
    for operator in backend.OPERATORS:
        setattr(module, operator, getattr(reference, operator))
    monkeypatch.setitem(sys.modules, "fastconv.emulated", module)
    monkeypatch.setitem(backend._backends, "emulated", backend.Backend("emulated"))
    return module


def cases_of(name, *rest, **how):
    plan, _ = planned(name, *rest, **how)
    return plan[name]


def run_check(*words):
    return main(["check", "--backend", "emulated", "--quick", *words])


def one_wrong_element(y):
    y.flat[-1:] += 1
    return y


def one_nan(y):
    y.flat[:1] = np.nan
    return y


def one_unwritten(y):
    result = np.empty(y.shape, y.dtype)
    result.flat[:-1] = y.flat[:-1]
    return result


def wider(y):
    return y.astype("complex64" if y.dtype == np.float64 else "float64")


def swapped(y):
    return y if y.dtype.name == "bfloat16" else y.astype(y.dtype.newbyteorder())


def one_axis_more(y):
    return y[None]


def a_list(y):
    return y.tolist()


# What the bug does to a result -> what the failure must say
PLANTED = [
    (one_wrong_element, "elements are wrong"),
    (one_nan, "elements are wrong, worst .* got .*nan"),
    (one_unwritten, "wrong|never written"),
    (wider, "dtype .* expected"),
    (swapped, "dtype .* expected"),
    (one_axis_more, "shape .* expected"),
    (a_list, "a list, expected an array"),
    (lambda y: (y, y), "2 results, expected 1"),
]


@pytest.mark.parametrize("bug, words", PLANTED, ids=lambda v: getattr(v, "__name__", ""))
@pytest.mark.parametrize("operator", ["conv_forward", "avg_pool_forward", "matmul"])
def test_a_planted_bug_is_caught(fake, capsys, operator, bug, words):
    right = getattr(reference, operator)
    setattr(fake, operator, lambda *arguments: bug(right(*arguments)))
    report = check("emulated", operator, quick=True)
    assert not report.ok
    assert {row.dtype for row in report.rows if not row.ok} >= {"float16", "float32", "float64"}
    problems = [failure.problem for row in report.rows for failure in row.failures]
    assert any(re.search(words, problem) for problem in problems), problems[:3]


def test_the_exit_status_and_the_output_name_the_broken_operator(fake, capsys):
    fake.matmul = lambda a, b: one_wrong_element(reference.matmul(a, b))
    assert run_check("--op", "[mp][ao][to]*") == 1  # matmul and pool_*
    printed = capsys.readouterr().out
    broken = {line.split()[1] for line in printed.splitlines() if "FAILED (" in line}
    assert broken == {"matmul"}
    assert "emulated matmul float32: 1x1 @ 1x1, transposed" in printed
    assert "elements are wrong, worst (0, 0)" in printed


def test_without_a_bug_nothing_is_found(fake, capsys):
    assert run_check("--op", "pool_*") == 0
    assert "all within their bounds" in capsys.readouterr().out


def only_problem(report):
    """What all failures say; there must be some, and they must agree."""
    problems = {failure.problem for row in report.rows for failure in row.failures}
    assert len(problems) == 1
    return problems.pop()


def test_a_changed_input_is_caught(fake):
    def changing(a, b):
        c = reference.matmul(a, b)
        if a.flags.writeable and a.size:
            a.flat[0] += 1
        return c

    fake.matmul = changing
    assert only_problem(check("emulated", "matmul", quick=True)) == "an input was changed"


def test_writing_into_the_gaps_of_an_input_is_caught(fake):
    def spilling(a, b):
        if a.size and a.base is not None and a.base.size == a.size // a.shape[-1] * (2 * a.shape[-1] + 1):
            a.base[..., 0] = 0
        return reference.matmul(a, b)

    fake.matmul = spilling
    report = check("emulated", "matmul", quick=True)
    assert only_problem(report) == "an input was changed"
    assert {f.case.split(", ")[-1] for row in report.rows for f in row.failures} == {"every_second"}


def test_a_result_that_is_an_input_is_caught(fake):
    def lazy(x, window, in_window=False):
        y, indices = reference.max_pool_forward(x, window, in_window)
        return (x, indices) if x.shape == y.shape and x.dtype.isnative and np.array_equal(x, y) else (y, indices)

    fake.max_pool_forward = lazy
    assert only_problem(check("emulated", "max_pool_forward", quick=True)) == "a result shares its memory with an input"


def test_a_result_that_changes_from_run_to_run_is_caught(fake):
    calls = []

    def drifting(a, b):
        calls.append(None)
        c = reference.matmul(a, b)
        return np.nextafter(c, np.inf, dtype=c.dtype) if len(calls) % 2 and c.dtype.name != "bfloat16" else c

    fake.matmul = drifting
    report = check("emulated", "matmul", quick=True)
    assert only_problem(report) == "two runs differ, or an element is never written"
    assert {row.dtype for row in report.rows if not row.ok} == {"float16", "float32", "float64"}


def test_a_result_that_depends_on_the_number_of_threads_is_caught(monkeypatch):
    from fastconv import cpu
    from fastconv.cpu.threads import get_num_threads

    before = get_num_threads()

    def split(a, b):
        c = reference.matmul(a, b)
        return c if get_num_threads() == 1 or c.dtype.name == "bfloat16" else np.nextafter(c, np.inf, dtype=c.dtype)

    monkeypatch.setattr(cpu, "matmul", split)
    assert only_problem(check("cpu", "matmul", quick=True)) == "one and two threads differ"
    assert get_num_threads() == before


def test_an_exception_is_a_failure_of_its_case_and_the_others_still_run(fake):
    def refusing(a, b):
        if a.shape[-1] == 513:
            raise ValueError("too deep")
        return reference.matmul(a, b)

    fake.matmul = refusing
    report = check("emulated", "matmul", quick=True)
    assert only_problem(report) == "raised ValueError: too deep"
    assert all(len(row.failures) < row.cases for row in report.rows)


def test_a_missing_operator_is_a_failure(fake, capsys):
    del fake.pool_scatter
    assert run_check("--op", "pool_*") == 1
    printed = capsys.readouterr().out
    assert "the emulated backend has no operator pool_scatter" in printed
    assert [line.split()[1:3] for line in printed.splitlines() if "FAILED (" in line] == [["pool_scatter", "-"]]


def test_a_wrong_index_of_a_maximum_is_caught(fake):
    def last_of_ties(x, window, in_window=False):
        y, indices = reference.max_pool_forward(x, window, in_window)
        return y, np.where(indices == indices.max(initial=0), np.maximum(indices - 1, 0), indices)

    fake.max_pool_forward = last_of_ties
    assert not check("emulated", "max_pool_forward", quick=True).ok


def test_a_wrong_gradient_is_caught_through_the_public_functions(fake):
    fake.avg_pool_input_grad = lambda *arguments: 2 * reference.avg_pool_input_grad(*arguments)
    report = check("emulated", "functional.*pool2d", quick=True)
    assert {row.operator for row in report.rows if not row.ok} == {"functional.avg_pool2d"}


def test_a_bug_of_the_reference_is_caught_by_the_loops(monkeypatch):
    right = reference.conv_forward
    monkeypatch.setattr(reference, "conv_forward", lambda *arguments: one_wrong_element(right(*arguments)))
    assert not check("reference", "conv_forward", quick=True).ok


def test_a_bug_of_the_reference_on_larger_problems_is_caught_by_transposition(monkeypatch):
    right = reference.conv_weight_grad

    def wrong(x, dy, window):
        dw = right(x, dy, window)
        return dw if window.channels < 257 else one_wrong_element(dw)

    monkeypatch.setattr(reference, "conv_weight_grad", wrong)
    report = check("reference", "conv_weight_grad")
    failures = [failure.case for row in report.rows for failure in row.failures]
    assert failures
    assert all("x257x" in case or "x1025x" in case for case in failures)


def test_a_wrong_gradient_rule_is_caught_by_differences(monkeypatch):
    def wrong(*arguments):
        return 1.001 * reference.avg_pool_input_grad(*arguments)

    monkeypatch.setitem(vars(backend._backends["reference"]), "avg_pool_input_grad", wrong)
    report = check("reference", "functional.*pool2d")
    assert {row.operator for row in report.rows if not row.ok} == {"functional.avg_pool2d"}


def test_memory_is_poisoned_and_then_no_longer(fake):
    empty, empty_like = np.empty, np.empty_like
    seen = []

    def looking(a, b):
        seen.append((np.isnan(np.empty(3)).all(), (np.empty(3, "int32") == np.iinfo("int32").min).all(), np.empty(0)))
        return reference.matmul(a, b)

    fake.matmul = looking
    case = cases_of("emulated", "matmul")[0]
    assert examine("emulated", case) == (0.0, None)
    assert [bool(a and b) for a, b, _ in seen][1]
    assert (np.empty, np.empty_like) == (empty, empty_like)


def test_json_has_the_documented_shape(fake, tmp_path, capsys):
    path = tmp_path / "report.json"
    fake.matmul = lambda a, b: one_nan(reference.matmul(a, b))
    assert run_check("--op", "matmul", "--json", str(path)) == 1
    document = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)  # no NaN, no Infinity
    assert set(document) == {
        "fastconv", "ok", "op", "quick", "seconds", "cases", "skipped", "rows", "config",
    }  # fmt: skip
    assert (document["ok"], document["op"], document["quick"]) == (False, "matmul", True)
    assert document["cases"] == sum(row["cases"] for row in document["rows"])
    for row in document["rows"]:
        assert set(row) == {"backend", "operator", "dtype", "cases", "worst", "ok", "failures", "seconds"}
        assert (row["backend"], row["operator"], row["ok"]) == ("emulated", "matmul", False)
        assert row["worst"] is None
        assert all(set(failure) == {"case", "problem"} for failure in row["failures"])
    assert {row["dtype"] for row in document["rows"]} >= {"float32", "float64", "float16"}
    assert document["config"]["fastconv"] == document["fastconv"]


def test_backends_that_cannot_be_used_are_named(monkeypatch):
    facts = config.facts()
    facts["backends"] = {"reference": None, "cpu": None, "cuda": "no GPU found", "emulated": "not in this release"}
    monkeypatch.setattr(config, "facts", lambda: facts)
    report = check(op="matmul", quick=True)
    assert {row.backend for row in report.rows} == {"cpu"}
    assert report.skipped["cuda"] == "no GPU found"
    assert "not checked: cuda: no GPU found" in str(report)
    with pytest.raises(DeviceError, match=r"check: backend: got 'cuda', .*no GPU found"):
        check("cuda")
    facts["backends"]["cpu"] = "Numba is not installed"
    with pytest.raises(DeviceError, match="Numba is not installed"):
        check()


def test_bad_arguments_of_the_function():
    with pytest.raises(ShapeError, match="check: backend: got 'gpu'"):
        check(["gpu"])
    with pytest.raises(ShapeError, match=r"check: op: got 'sort\*'"):
        check("reference", "sort*")


@pytest.mark.parametrize(
    "words, message",
    [
        (["check", "--backend", "gpu"], "check: backend: got 'gpu', expected reference or cpu"),
        (["check", "--backend", "reference", "--op", "sort*"], "check: op: got 'sort*'"),
        (["check", "--json", "no/such/folder/report.json"], "No such file or directory"),
        (["check", "--json", "."], "Is a directory"),
        (["check", "--list", "--backend", "gpu"], "check: backend: got 'gpu'"),
    ],
)
def test_command_lines_that_make_no_sense(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["chek"], ["check", "--fast"]])
def test_unknown_words_print_the_usage(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert "usage: python -m fastconv" in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.split() == ["fastconv", config.facts()["fastconv"]]


def test_info(capsys):
    assert main(["info"]) == 0
    assert "backend cpu" in capsys.readouterr().out
    assert main(["info", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(config.facts())


def test_list_prints_what_would_run(capsys):
    assert main(["check", "--list", "--op", "matmul", "--backend", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(cases_of("cpu", "matmul"))
    assert "cpu  matmul  float32  5x7 @ 7x3, transposed" in lines


def test_a_reader_that_has_seen_enough_gets_no_traceback():
    command = [sys.executable, "-m", "fastconv", "check", "--list", "--backend", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0


def test_progress_goes_to_a_terminal_only(fake, capsys, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    assert run_check("--op", "pool_gather") == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert run_check("--op", "pool_gather") == 0
    drawn = sys.stderr.getvalue().split("\r")
    assert any("[###" in line and "emulated pool_gather float64" in line for line in drawn)
    assert drawn[-2].strip() == drawn[-1] == ""


def test_the_quick_selection_leaves_no_operator_out():
    quick, full = cases_of("cpu", quick=True), cases_of("cpu")
    assert len(quick) < 0.8 * len(full)
    assert {case.operator for case in quick} == {case.operator for case in full}
    assert {case.operator for case in full} >= set(backend.OPERATORS)


def test_the_quick_check_of_the_cpu_passes():
    report = check("cpu", "matmul", quick=True)
    assert report.ok, str(report)


def single(x):
    """x as batch normalisation in float32 would read it, float64 for float64."""
    return x.astype("float64" if x.dtype.name == "float64" else "float32")


def two_passes(x):
    wide, axes = single(x), (0, *range(2, x.ndim))
    count = wide.dtype.type(max(wide.size // wide.shape[1], 0))
    with np.errstate(all="ignore"):
        mean = wide.sum(axis=axes) / count
        centred = wide - mean.reshape(-1, *(1,) * (x.ndim - 2))
        return mean, (centred * centred).sum(axis=axes) / count


def one_pass(x):
    mean, _ = two_passes(x)
    with np.errstate(all="ignore"):
        return mean, two_passes(single(x) * single(x))[0] - mean * mean


def test_a_variance_that_cancels_is_caught_and_one_of_two_passes_is_not(fake):
    fake.batch_norm_statistics = two_passes
    assert check("emulated", "batch_norm_statistics").ok
    fake.batch_norm_statistics = one_pass
    report = check("emulated", "batch_norm_statistics")
    assert not report.ok
    assert any("shifted" in failure.case for row in report.rows for failure in row.failures)
