"""`python -m bench run`: every row of a suite, fastconv beside a peer."""

import contextlib
import fnmatch
import itertools
import pathlib
import tempfile
from typing import NamedTuple

import numpy

from bench import machine, pairing, shapes
from bench.agreement import compare, dtype_of
from bench.engines import Case
from bench.process import Worker, WorkerError
from bench.report import Progress, Table, document_of, plural, print_means, save

LAYOUTS = ("channels_first", "channels_last")
DTYPES = ("float32", "float64", "float16", "bfloat16")


class Effort(NamedTuple):
    """How much work a run puts into each row.

    Attributes:
        gflop, mb: Budget of one call.
        rounds: Turns of each library.
        warm_seconds: Warm-up of each library.
        sample_seconds: About how long a turn lasts.
    """

    gflop: float
    mb: float
    rounds: int
    warm_seconds: float
    sample_seconds: float


NORMAL = Effort(gflop=6, mb=256, rounds=15, warm_seconds=0.2, sample_seconds=0.02)
QUICK = Effort(gflop=1, mb=32, rounds=7, warm_seconds=0.05, sample_seconds=0.005)
GPU = Effort(gflop=400, mb=512, rounds=15, warm_seconds=0.1, sample_seconds=0.01)
QUICK_GPU = Effort(gflop=40, mb=128, rounds=5, warm_seconds=0.02, sample_seconds=0.002)


def effort(options):
    """The Effort that the options of the command ask for."""
    asked = {name: getattr(options, name) for name in ("gflop", "mb", "rounds")}
    normal, quick = (GPU, QUICK_GPU) if options.backend == "cuda" else (NORMAL, QUICK)
    return (quick if options.quick else normal)._replace(**{k: v for k, v in asked.items() if v is not None})


def selection(options):
    """(Selection, Budget): the problems of the options, cut to the budget."""
    spent = effort(options)
    budget = shapes.Budget(options.batch, spent.gflop, spent.mb)
    problems = [p for p in shapes.suite(options.suite) if fnmatch.fnmatch(p.name, options.rows)]
    return shapes.select(problems, budget, itemsize(options.dtype)), budget


def cases(problems, options):
    """The Cases of some problems: directions and layouts of each."""
    directions = shapes.DIRECTIONS if options.direction == "all" else (options.direction,)
    layouts = LAYOUTS if options.layout == "both" else (options.layout,)
    return [
        Case(problem, direction, layout, options.dtype)
        for problem, direction, layout in itertools.product(problems, directions, layouts)
        if direction in problem.directions
    ]


def itemsize(dtype):
    """Bytes of an element of a dtype."""
    return dtype_of(dtype).itemsize


class Row(NamedTuple):
    """What became of one case.

    Attributes:
        case: The Case.
        status: "ok", "WRONG" (results differ), "FAILED" (we raised or died) or "no peer" (the peer did).
        note: What there is to say about a row that is not ok.
        error: Largest difference relative to sum |x||w|, or None where nothing was compared.
        timing: A Timing, or None.
        rate: Operations per second of ours at the median, bytes per second for pooling; or None.
        share: rate as a part of the measured peak, or None.
        others: Cores that other processes took meanwhile, or None where that cannot be known.
    """

    case: Case
    status: str
    note: str = ""
    error: float | None = None
    timing: pairing.Timing | None = None
    rate: float | None = None
    share: float | None = None
    others: float | None = None

    @property
    def ratio(self):
        """Median of the paired ratios, or None."""
        ratio = self.timing.ratio() if self.timing else None
        return ratio and ratio[0]


def measure(case, ours, peer, spent, peak, progress=lambda text: None):
    """Compare the results of one case, then time it.

    Args:
        case: A Case.
        ours: Our Worker.
        peer: The peer's Worker, or None.
        spent: An Effort.
        peak: Operations per second that count as the whole of the machine.
        progress: Called with a few words now and then.

    Returns:
        The Row.
    """
    progress("results")
    workers, note, error = [ours], "", None
    with tempfile.TemporaryDirectory(prefix="fastconv-bench-") as folder:
        mine, theirs = (pathlib.Path(folder, side) for side in ("ours", "peer"))
        try:
            _compute(ours, case, mine, magnitude=False)
        except WorkerError as failure:
            return Row(case, "FAILED", str(failure))
        if peer is not None:
            try:
                _compute(peer, case, theirs, magnitude=True)
                workers.append(peer)
            except WorkerError as failure:
                note = str(failure)
        if len(workers) > 1:
            files = (mine / "y.npy", theirs / "y.npy", theirs / "scale.npy")
            arrays = [numpy.load(file, mmap_mode="r") for file in files]
            agrees, error = compare(*arrays, case.problem.terms(case.direction), case.dtype)
            if not agrees:
                return Row(case, "WRONG", f"results differ by {error:.1e} of sum |x||w|", error)
    others = machine.Others([worker.pid for worker in workers])
    try:
        timing = pairing.take_turns(workers, spent.rounds, spent.warm_seconds, spent.sample_seconds, progress)
    except WorkerError as failure:
        return Row(case, "FAILED", str(failure), error)
    size = itemsize(case.dtype)
    work = case.problem.flops or case.problem.bytes(size)
    rate = work / (timing.ours_ms * 1e-3)
    share = rate / peak if case.problem.flops else None
    return Row(case, "no peer" if note else "ok", note, error, timing, rate, share, others.cores())


def _compute(worker, case, folder, magnitude):
    folder.mkdir()
    worker.request("prepare", case=case.to_json())
    worker.request("result", path=str(folder), magnitude=magnitude)


def start_peer(options, threads, say):
    """The peer's Worker, or None with a word about it where there is none."""
    if options.peer == "none":
        say("no peer: fastconv runs alone, results are not compared")
        return None
    on_gpu = options.backend == "cuda" and options.peer == "torch"
    try:
        return Worker("torch-cuda" if on_gpu else options.peer, threads)
    except WorkerError as failure:
        if "ImportError" not in failure.got and "ModuleNotFoundError" not in failure.got:
            raise
        say(f"{options.peer} is not installed ({failure.got}): fastconv runs alone, results are not compared")
        return None


def run(options):
    """Time every row that the options select, with each number of threads, and report it.

    Args:
        options: Options of the command.

    Returns:
        The exit status: 0, or 1 where a result was wrong or a row failed, 2 where no row is selected, 130 when
        interrupted.
    """
    selected, budget = selection(options)
    todo = cases(selected.problems, options)
    if not todo:
        print("no row is selected")
        return 2
    documents, status = [], 0
    for count in options.threads:
        document, rows = _run_with(count, todo, options, selected, budget)
        documents.append(document)
        if len(rows) < len(todo):
            print(f"interrupted after {len(rows)} of {plural(len(todo), 'row')}")
            status = 130
            break
        status |= int(any(row.status in ("WRONG", "FAILED") for row in rows))
    print_means(documents)
    if options.json:
        save(options.json, documents[0] if len(documents) == 1 else {"runs": documents})
    if options.plot:
        from bench.plot import plot  # matplotlib is an extra

        plot(rows, options, document["machine"])
    return status


def _run_with(threads, todo, options, selected, budget):
    """(document for JSON, Rows) of all cases with one number of threads; fewer Rows when interrupted."""
    spent = effort(options)
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(Worker(options.backend, threads))
        peer = start_peer(options, threads, print)
        if peer is not None:
            stack.enter_context(peer)
        facts = machine.facts(threads, gpu=options.backend == "cuda")
        peak = (peer if peer is not None and options.backend == "cuda" else ours).request(
            "peak", dtype=options.dtype, seconds=0.5 if options.quick else 2
        )
        table = Table(todo, options.peer if peer else None)
        table.head(options, facts, [w.version for w in (ours, peer) if w], peak, budget, selected)
        progress = Progress(len(todo))
        rows = []
        for number, case in enumerate(todo):
            progress.case(number, f"{case.problem.name} {case.direction} {case.layout}")
            try:
                rows.append(measure(case, ours, peer, spent, peak, progress))
            except KeyboardInterrupt:
                break  # what is measured is reported all the same
            finally:
                progress.clear()
            table.row(rows[-1])
        table.foot(rows)
    return document_of(options, facts, peak, budget, spent, rows, peer and peer.version), rows


def listing(options):
    """Print suites, or with a suite chosen its rows as they would run."""
    if options.suite is None:
        names = {full: short for short, full in shapes.ALIASES.items()}
        for name, problems in shapes.suites().items():
            print(f"{name:18}{plural(len(problems), 'row'):>10}   {names.get(name, '')}".rstrip())
        return 0
    selected, budget = selection(options)
    print(budget.rule())
    width = max((len(p.name) for p in selected.problems), default=0)
    for problem in selected.problems:
        amount = f"{problem.flops / 1e9:.3f} GFLOP  " if problem.flops else ""
        print(
            f"{problem.name:{width}}  {amount}{problem.bytes(itemsize(options.dtype)) / 1e6:7.2f} MB  "
            f"{problem.kind} {problem.describe()}"
        )
    for names, why in ((selected.repeated, "equal to an earlier row"), (selected.too_large, "over the budget")):
        if names:
            print(f"left out, {why}: {', '.join(names)}")
    return 0
