"""The self-check: every operator and gradient of every backend against the reference, on this machine.

Each case is run three times. All runs must have the dtype and shape of the contract, must leave their inputs alone,
and must agree in every bit; the second has its new memory filled with NaN beforehand, so that an element that is
never written shows, and on the cpu backend the third uses one thread instead of two. Every element of the result is
compared with the reference under the error model of fastconv.tolerance. The reference itself is compared with
loops over single elements, with transposition and with differences: fastconv.cases.oracle.
"""

import fnmatch
import functools
import importlib
import time
from typing import NamedTuple

import numpy

from fastconv import backend as backends_
from fastconv import config
from fastconv._version import __version__
from fastconv.errors import DeviceError, ShapeError
from fastconv.tolerance import assert_within, bound

# The c of the error model, by what an operator's name starts with. Beside it the measured worst case in units of the
# bound: of every case in float32 and float64 on the cpu backend with AVX-512, where machines without fused
# multiply-add round more often. The halves reach 1.0, where two correct roundings fall to either side of a tie.
_FACTORS = {
    "conv": 2.0,  # 0.36
    "matmul": 2.0,  # 0.22
    "resize": 2.0,  # 0.43
    "grid_sample": 2.0,  # 0.18
    "avg_pool": 2.0,  # 0.53
    "max_pool": 2.0,  # 0.20
    "adaptive": 2.0,  # 0.52
    "pool_scatter": 2.0,  # 0.16
    "batch_norm": 3.0,  # 0.50; its forward formula rounds six times and sums nothing
    "group_norm": 3.0,
    "response_norm": 3.0,
    "rms_norm": 3.0,  # 0.41
    "nll": 2.0,
    "cross_entropy": 2.0,  # 0.18
    "binary": 3.0,
    "unary": 3.0,  # 0.69
    "softmax": 3.0,  # 0.32
    "glu": 3.0,  # 0.59
    "prelu": 2.0,  # 0.10
    "roi": 2.0,  # 0.26
    "normalize": 3.0,  # 0.31
    "functional": 3.0,  # 0.18
}
_SHOWN = 3  # failures of a row that are printed; JSON holds all


class Failure(NamedTuple):
    """One case that went wrong.

    Attributes:
        case: Its name: problem, fill and storage.
        problem: What was wrong.
    """

    case: str
    problem: str


class Row(NamedTuple):
    """All cases of one operator, dtype and backend.

    Attributes:
        backend, operator, dtype: What was checked; dtype is "-" for an operator that is missing.
        cases: How many were run.
        worst: Largest error of an element in units of its bound; None where an error has no such measure.
        ok: Whether all of them passed.
        failures: A Failure for each that did not.
        seconds: What they took, the reference included.
    """

    backend: str
    operator: str
    dtype: str
    cases: int
    worst: float | None
    ok: bool
    failures: tuple
    seconds: float


class Report(NamedTuple):
    """The outcome of a check.

    Attributes:
        rows: A Row for each backend, operator and dtype.
        skipped: What was not checked, with the reason: backends that cannot be used here, dtypes without a package.
        op: Pattern that the operators were chosen by.
        quick: Whether it was the quick selection.
        seconds: What all of it took.
    """

    rows: tuple
    skipped: dict
    op: str
    quick: bool
    seconds: float

    @property
    def ok(self):
        """Whether something was checked, and all of it passed."""
        return bool(self.rows) and all(row.ok for row in self.rows)

    @property
    def cases(self):
        """How many cases were run."""
        return sum(row.cases for row in self.rows)

    def to_dict(self):
        """The report as plain values for JSON, with the version and the facts of this installation."""
        rows = [{**row._asdict(), "failures": [f._asdict() for f in row.failures]} for row in self.rows]
        return {
            "fastconv": __version__,
            "ok": self.ok,
            "op": self.op,
            "quick": self.quick,
            "seconds": round(self.seconds, 3),
            "cases": self.cases,
            "skipped": dict(self.skipped),
            "rows": rows,
            "config": config.facts(),
        }

    def __str__(self):
        width = max((len(row.operator) for row in self.rows), default=8)
        lines = [f"{'backend':<9}  {'operator':<{width}}  {'dtype':<8}  {'cases':>5}  {'worst':>6}  verdict"]
        for row in self.rows:
            worst = "-" if row.worst is None else f"{row.worst:.2f}"
            verdict = "ok" if row.ok else f"FAILED ({len(row.failures)})"
            lines.append(
                f"{row.backend:<9}  {row.operator:<{width}}  {row.dtype:<8}  {row.cases:>5}  {worst:>6}  {verdict}"
            )
        for row in self.rows:
            for failure in row.failures[:_SHOWN]:
                lines.append(f"\n{row.backend} {row.operator} {row.dtype}: {failure.case}\n    {failure.problem}")
            if len(row.failures) > _SHOWN:
                lines.append(f"    and {len(row.failures) - _SHOWN} more")
        lines.extend(f"not checked: {name}: {reason}" for name, reason in self.skipped.items())
        bad = sum(not row.ok for row in self.rows)
        verdict = "all within their bounds" if self.ok else f"{bad} of {len(self.rows)} rows FAILED"
        lines.append(f"{self.cases} cases in {self.seconds:.0f} s: {verdict}")
        return "\n".join(lines)


def check(backends=None, op="*", quick=False, progress=None):
    """Compare backends with the reference, every element of every result, on this machine.

    Args:
        backends: Name of a backend or a sequence of them; None for all that can be used here but the reference.
            "reference" compares the reference itself with independent loops.
        op: Pattern of operator names with * and ?, such as "conv*"; public functions are "functional.conv2d" and
            so on and also match without their prefix.
        quick: Whether to leave the cases out that find bugs rarely.
        progress: Function of (cases done, cases in all, what is next), or None.

    Returns:
        A Report.

    Raises:
        ShapeError: There is no such backend, or no operator matches.
        DeviceError: A backend that was asked for cannot be used here.
    """
    start = time.perf_counter()
    plan, skipped = planned(backends, op, quick)
    total = sum(len(cases) for cases in plan.values())
    done, rows = 0, {}
    for name, cases in plan.items():
        for missing in _missing(name, op):
            failure = Failure("-", f"the {name} backend has no operator {missing}")
            rows[name, missing, "-"] = [Row(name, missing, "-", 0, None, False, (failure,), 0.0)]
        for case in cases:
            if (name, case.operator, "-") not in rows:
                if progress:
                    progress(done, total, f"{name} {case.operator} {case.dtype}")
                rows.setdefault((name, case.operator, case.dtype), []).append(_examined(name, case))
            done += 1
    if progress:
        progress(total, total, "done")
    merged = tuple(functools.reduce(_merged, parts) for parts in rows.values())
    return Report(merged, skipped, op, quick, time.perf_counter() - start)


def planned(backends=None, op="*", quick=False):
    """The cases that a check consists of.

    Args:
        backends, op, quick: As for check().

    Returns:
        (plan, skipped): a dict from each backend to a list of Cases and GradientCases, and Report.skipped.

    Raises:
        ShapeError: There is no such backend, or no operator matches.
        DeviceError: A backend that was asked for cannot be used here.
    """
    from fastconv.cases import all_cases, dtypes  # not needed by whoever imports fastconv only

    names, skipped = _choose(backends)
    if "bfloat16" not in dtypes():
        skipped["bfloat16"] = "ml_dtypes is not installed"
    cases = [case for case in all_cases() if _matches(case.operator, op) and (case.quick or not quick)]
    if not cases:
        raise ShapeError("check", "op", repr(op), "a pattern that matches an operator", "see check --list")
    return {name: [case for case in cases if name != "reference" or _has_oracle(case)] for name in names}, skipped


def examine(name, case):
    """Run one case and compare.

    Args:
        name: Name of the backend.
        case: A Case or GradientCase.

    Returns:
        (worst, problem): the largest error in units of its bound, or None where it has no such measure; and what
        is wrong, or None.
    """
    try:
        return _examine(name, case)
    except Exception as error:  # one failure more, and the other cases still run
        return None, f"raised {type(error).__name__}: {error}"


def _examine(name, case):
    from fastconv.cases import oracle
    from fastconv.cases.runs import run_thrice

    if name == "reference" and _is_public(case):
        return _answered(oracle.by_differences(case))
    if name == "reference" and not oracle.is_looped(case):
        return _answered(oracle.by_transposition(case, _factor(case)))
    expected = oracle.by_loops(case) if name == "reference" else case.expected()
    results, problem = run_thrice(name, case, functools.partial(_misfit, expected, case.result_dtypes()))
    if problem:
        return None, problem
    bounds = [
        numpy.zeros(()) if case.exact else bound(e, scale, length, result.dtype, _factor(case))
        for e, scale, length, result in zip(expected, case.scale(), case.length(), results, strict=True)
    ]
    return _compared(results, expected, bounds)


def _choose(backends):
    """Names of the backends to check, and what is left out with the reason."""
    problems = config.facts()["backends"]
    skipped = {}
    if backends is None:
        names = [name for name, problem in problems.items() if problem is None and name != "reference"]
        skipped = {name: problem for name, problem in problems.items() if problem is not None}
        if not names:
            raise DeviceError("check", "backends", "no backend that can be used here", "at least one", str(skipped))
    else:
        names = list(dict.fromkeys((backends,) if isinstance(backends, str) else backends))
        for name in names:
            if name not in problems:
                raise ShapeError("check", "backend", repr(name), " or ".join(backends_.NAMES))
            if problems[name] is not None:
                raise DeviceError("check", "backend", repr(name), "a backend that can be used here", problems[name])
    return names, skipped


def _missing(name, op):
    """Operators of the contract that the backend lacks."""
    module = importlib.import_module(f"fastconv.{name}")
    return [o for o in backends_.OPERATORS if _matches(o, op) and not callable(getattr(module, o, None))]


def _matches(operator, op):
    return fnmatch.fnmatchcase(operator, op) or fnmatch.fnmatchcase(operator.removeprefix("functional."), op)


def _has_oracle(case):
    """Whether there is something to compare the reference with."""
    from fastconv.cases import oracle

    if _is_public(case):
        return case.dtype == "float64"
    return oracle.is_looped(case) or oracle.is_transpose(case)


def _is_public(case):
    return case.operator.startswith("functional.")


def _factor(case):
    return next((c for start, c in _FACTORS.items() if case.operator.startswith(start)), 0.0)


def _examined(name, case):
    """The Row of one case."""
    start = time.perf_counter()
    worst, problem = examine(name, case)
    failures = () if problem is None else (Failure(case.name, problem),)
    seconds = time.perf_counter() - start
    return Row(name, case.operator, case.dtype, 1, worst, not failures, failures, seconds)


def _merged(row, other):
    """One Row of two."""
    worst = None if row.worst is None or other.worst is None else max(row.worst, other.worst)
    return row._replace(
        cases=row.cases + other.cases,
        worst=worst,
        ok=row.ok and other.ok,
        failures=row.failures + other.failures,
        seconds=row.seconds + other.seconds,
    )


def _misfit(expected, dtypes, results):
    """What is wrong with number, type, dtype or shape of the results, or None."""
    if len(results) != len(expected):
        return f"{len(results)} results, expected {len(expected)}"
    for result, e, dtype in zip(results, expected, dtypes, strict=True):
        if not isinstance(result, numpy.ndarray):
            return f"a {type(result).__name__}, expected an array"
        if result.dtype != dtype:
            return f"dtype {result.dtype.str} {result.dtype.name}, expected {dtype.str} {dtype.name}"
        if result.shape != e.shape:
            return f"shape {list(result.shape)}, expected {list(e.shape)}"
    return None


def _answered(question):
    return _compared([numpy.asarray(r) for r in question.ask()], question.expected, question.bounds)


def _compared(results, expected, bounds):
    """(worst, problem) of all results."""
    worst, problem = 0.0, None
    for result, e, limit in zip(results, expected, bounds, strict=True):
        try:
            ratio = assert_within(result, e, limit)
        except AssertionError as error:
            problem = problem or str(error)
            ratio = _excess(result, e, limit)
        worst = None if worst is None or ratio is None else max(worst, ratio)
    return worst, problem


def _excess(result, expected, limit):
    """The largest error in units of its bound, of a result that exceeds it; None where that is no number."""
    with numpy.errstate(all="ignore"):
        rounded = numpy.asarray(expected).astype(result.dtype).astype("float64")
        wide = result.astype("float64")
        same = (wide == rounded) | (numpy.isnan(wide) & numpy.isnan(rounded))
        ratio = numpy.where(same, 0.0, numpy.abs(wide - rounded) / limit)
    largest = float(numpy.max(ratio, initial=0.0))
    return largest if numpy.isfinite(largest) else None
