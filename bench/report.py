"""What a run says: a table on the terminal, progress beside it, JSON for machines."""

import json
import pathlib
import shutil
import sys
from typing import NamedTuple

from bench.pairing import geometric_mean

BUSY_CORES = 0.1  # what other processes may take of all cores together before a row counts as disturbed


class Progress:
    """One line on the terminal's error stream that is overwritten in place; silent where that is no terminal.

    Args:
        total: How many cases there are.
    """

    def __init__(self, total):
        self._total = total
        self._shown = sys.stderr.isatty()
        self._text = ""

    def case(self, number, name):
        """Begin a case."""
        self._text = f"[{number + 1}/{self._total}] {name}"

    def __call__(self, step):
        if self._shown:
            line = f"{self._text}: {step}"[: shutil.get_terminal_size().columns - 1]
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()

    def clear(self):
        """Remove the line."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


class Table:
    """The table of a run, printed row by row as results come in.

    Args:
        cases: All Cases of the run, which decide the widths of the columns.
        peer: Name of the peer, or None.
    """

    def __init__(self, cases, peer):
        self._peer = peer
        self._name = max(len(c.problem.name) for c in cases)
        self._shape = max(len(c.problem.describe()) for c in cases)

    def head(self, options, facts, versions, peak, budget, selected):
        """Print what the figures depend on, and the names of the columns."""
        libraries = [f"fastconv {versions[0]} ({options.backend})"]
        if self._peer:
            libraries.append(f"{self._peer} {versions[1]}")
        print(f"{options.suite}, {options.dtype}: {' beside '.join(libraries)}")
        device = f"{facts['cpu']}, {plural(facts['threads'], 'thread')} of {plural(facts['cores'], 'core')}"
        if options.backend == "cuda":
            device = f"{facts['gpu']}, driver {facts['driver']}; the peer in its quicker memory format, cold caches"
        print(f"{device}; peak {peak / 1e9:.0f} GFLOP/s (best of several matrix products); commit {facts['commit']}")
        print(
            f"{budget.rule()}: {plural(selected.reduced, 'row')} cut, {len(selected.repeated)} left out as equal "
            f"to an earlier one, {len(selected.too_large)} as too large"
        )
        print()
        print(
            self._line(
                "row",
                "problem",
                "direction",
                "layout",
                "ours ms",
                "peer ms",
                "peer/ours",
                "quartiles",
                "rate",
                "% peak",
                "error",
                "others",
            )
        )

    def row(self, row):
        """Print one Row."""
        case, timing = row.case, row.timing
        start = (case.problem.name, case.problem.describe(), case.direction, case.layout)
        if timing is None:
            words = self._line(*start, *[""] * 8).rstrip()
            print(f"{words}  {row.status}: {row.note}", flush=True)
            return
        ratio = timing.ratio()
        unit = "GFLOP/s" if case.problem.flops else "GB/s"
        print(
            self._line(
                *start,
                f"{timing.ours_ms:.3f}",
                f"{timing.peer_ms:.3f}" if ratio else "-",
                f"{ratio[0]:.2f}" if ratio else "-",
                f"{ratio[1]:.2f}-{ratio[2]:.2f}" if ratio else "-",
                f"{row.rate / 1e9:.1f} {unit}",
                f"{100 * row.share:.0f}" if row.share is not None else "-",
                f"{row.error:.0e}" if row.error is not None else "-",
                f"{row.others:.1f}" if row.others is not None else "-",
            )
            + (f"  {row.status}: {row.note}" if row.note else ""),
            flush=True,
        )

    def _line(self, name, shape, direction, layout, *figures):
        widths = (9, 9, 9, 13, 14, 6, 6, 6)
        text = f"{name:{self._name}}  {shape:{self._shape}}  {direction:11}  {layout:14}"
        return text + "".join(f"  {value:>{width}}" for value, width in zip(figures, widths, strict=True))

    def foot(self, rows):
        """Print the closing line, and every row that is no result."""
        result = summary(rows)
        print()
        if result["geometric_mean"] is not None:
            worst = result["worst"]
            print(
                f"geometric mean {result['geometric_mean']:.2f} over {plural(result['compared'], 'row')}; worst "
                f"{worst['ratio']:.2f} ({worst['row']}); {plural(result['below_one'], 'row')} under 1.00"
            )
        else:
            print(f"{plural(result['timed'], 'row')} timed, none compared")
        if result["disturbed"]:
            print(
                f"{plural(result['disturbed'], 'row')} disturbed: other processes took more than {BUSY_CORES} cores "
                f"(column others), so that these figures do not count; repeat on a quiet machine"
            )
        for status in ("WRONG", "FAILED"):
            named = [_title(row.case) for row in rows if row.status == status]
            if named:
                print(f"{status}: {plural(len(named), 'row')}: {'; '.join(named)}")


def summary(rows):
    """Geometric mean, worst row and number of rows under 1.0, of rows that are disturbed and so on, for JSON."""
    compared = [row for row in rows if row.ratio is not None]
    worst = min(compared, key=lambda row: row.ratio, default=None)
    return {
        "timed": sum(row.timing is not None for row in rows),
        "compared": len(compared),
        "geometric_mean": geometric_mean(row.ratio for row in compared),
        "worst": worst and {"row": _title(worst.case), "ratio": worst.ratio},
        "below_one": sum(row.ratio < 1 for row in compared),
        "disturbed": sum((row.others or 0) > BUSY_CORES for row in rows),
        "wrong": sum(row.status == "WRONG" for row in rows),
        "failed": sum(row.status == "FAILED" for row in rows),
    }


def document_of(options, facts, peak, budget, spent, rows, peer_version):
    """A run with every sample of it, for JSON, so that figures can be worked out anew."""
    return {
        "suite": options.suite,
        "backend": options.backend,
        "peer": peer_version and {"name": options.peer, "version": peer_version},
        "dtype": options.dtype,
        "machine": facts,
        "peak_flops": peak,
        "effort": {**spent._asdict(), "rule": budget.rule()},
        "rows": [_as_json(row) for row in rows],
        "summary": summary(rows),
    }


class Mean(NamedTuple):
    """What the rows of a run say of one direction in one layout.

    Attributes:
        direction, layout: Those.
        ratio: Geometric mean of peer / ours.
        worst: (ratio, name) of the worst row.
        rows, lost: How many there are, and how many of them are under 1.
    """

    direction: str
    layout: str
    ratio: float
    worst: tuple
    rows: int
    lost: int


def means(document):
    """The Means of a run that document_of describes, of rows that were compared."""
    groups = {}
    for row in document["rows"]:
        if row["ratio"]:
            key = row["direction"], row["layout"]
            groups.setdefault(key, []).append((row["ratio"]["median"], row["problem"]["name"]))
    return [
        Mean(*key, geometric_mean(ratio for ratio, _ in found), min(found), len(found), sum(r < 1 for r, _ in found))
        for key, found in groups.items()
    ]


def print_means(documents):
    """Print a line for each direction and layout: the geometric mean of each run, and its worst row."""
    columns = [{(mean.direction, mean.layout): mean for mean in means(document)} for document in documents]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    if not keys:
        return
    heads = [plural(document["machine"]["threads"], "thread") for document in documents]
    print(f"\n{'peer/ours':27}" + "".join(f"  {head:>40}" for head in heads))
    for direction, layout in keys:
        found = [column.get((direction, layout)) for column in columns]
        texts = [f"{m.ratio:.2f}, worst {m.worst[0]:.2f} {m.worst[1]}" if m else "-" for m in found]
        print(f"{direction:11}  {layout:14}" + "".join(f"  {text:>40}" for text in texts))


def save(path, document):
    """Write a document as JSON and say where."""
    pathlib.Path(path).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}")


def plural(count, noun):
    """A count with its noun: 1 row, 2 rows."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _as_json(row):
    timing = row.timing
    ratio = timing.ratio() if timing else None
    return {
        **row.case.to_json(),
        "flops": row.case.problem.flops,
        "status": row.status,
        "note": row.note,
        "error": None if row.error is None or row.error == float("inf") else row.error,
        "ours_ms": timing and timing.ours_ms,
        "peer_ms": timing and timing.peer_ms,
        "ratio": ratio and dict(zip(("median", "first_quartile", "third_quartile"), ratio, strict=True)),
        "rate": row.rate,
        "share_of_peak": row.share,
        "others_cores": row.others,
        "ours_seconds": timing and timing.ours,
        "peer_seconds": timing and timing.peer,
    }


def _title(case):
    return f"{case.problem.name} {case.direction} {case.layout}"
