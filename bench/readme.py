"""`python -m bench readme`: the tables of README.md, from the results that are committed in bench/results/cpu.

Figures are written by nobody: --take condenses what other commands wrote with --json, all on one machine at one commit,
and the tables are made of that, lost rows included.
"""

import json
import pathlib

import numpy

from bench.pairing import geometric_mean
from bench.process import ROOT
from bench.report import BUSY_CORES, means
from fastconv.errors import ShapeError

README = ROOT / "README.md"
RESULTS = ROOT / "bench" / "results" / "cpu"
START, END = "<!-- bench:cpu -->", "<!-- /bench:cpu -->"

_DIRECTIONS = {"forward": "forward", "input_grad": "input gradient", "weight_grad": "weight gradient"}
_LAYOUTS = {"channels_first": "first", "channels_last": "last"}
_DIGITS = 4
# Parts of documents that can be worked out anew, or that no table needs.
_LEFT_OUT = {
    "dilation", "dtype", "effort", "error", "flops", "groups", "kernel", "kind", "memory", "note", "padding",
    "peak_flops", "rate", "share_of_peak", "stride",
}  # fmt: skip


def readme(options):
    """Condense results, where any are given, and write the tables anew.

    Args:
        options: Options of the command.

    Returns:
        The exit status, 0.
    """
    if options.take:
        taken = [(pathlib.Path(name).stem, json.loads(pathlib.Path(name).read_text("utf-8"))) for name in options.take]
        _check(document for _, whole in taken for document in runs(whole))
        RESULTS.mkdir(parents=True, exist_ok=True)
        for old in RESULTS.glob("*.json"):
            old.unlink()  # figures of two commits stand in no table together
        for stem, document in taken:
            (RESULTS / f"{stem}.json").write_text(_text(condensed(document)), encoding="utf-8")
    text = README.read_text("utf-8")
    README.write_text(replaced(text, block(committed())), encoding="utf-8")
    print(f"wrote {README.name}")
    return 0


def runs(document):
    """The documents of one file: `run` writes several into one with several numbers of threads."""
    return document.get("runs", [document])


def committed():
    """The condensed documents in bench/results/cpu."""
    return [one for path in sorted(RESULTS.glob("*.json")) for one in runs(json.loads(path.read_text("utf-8")))]


def condensed(value):
    """A document without samples, its figures rounded."""
    if isinstance(value, list):
        return [condensed(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if not isinstance(value, dict):
        return value
    value = dict(value)
    ours, peer = value.pop("ours_seconds", None), value.pop("peer_seconds", None)
    if ours:
        value["ours_ms"] = float(numpy.median(ours)) * 1e3
        if peer:
            value["peer_ms"] = float(numpy.median(peer)) * 1e3
            value.setdefault("ratio", [float(q) for q in numpy.quantile(numpy.divide(peer, ours), (0.5, 0.25, 0.75))])
    return {key: condensed(one) for key, one in value.items() if key not in _LEFT_OUT}


def _text(document):
    """JSON with a line for each row, so that changes of it can be read."""
    lines = json.dumps(document, ensure_ascii=False, separators=(", ", ": "))
    return lines.replace('"rows": [{', '"rows": [\n{').replace("}, {", "},\n{") + "\n"


def _check(documents):
    facts = {(d["machine"]["cpu"], d["machine"]["commit"]) for d in documents}
    if len(facts) > 1:
        raise ShapeError("bench readme", "take", f"results of {sorted(map(str, facts))}", "one machine and one commit")


def replaced(text, inside):
    """A text with what is between the markers replaced.

    Raises:
        ShapeError: There are no markers.
    """
    if START not in text or END not in text:
        raise ShapeError("bench readme", "README.md", "no markers", f"{START} and {END}")
    before, rest = text.split(START, 1)
    return f"{before}{START}\n{inside}\n{END}{rest.split(END, 1)[1]}"


def block(documents):
    """The tables of some condensed documents, as Markdown."""
    if not documents:
        return "No results are committed."
    parts = [_machine(documents)]
    for head, table in (
        ("Layers, torch/ours: the geometric mean of a suite, its worst row, and how many rows are under 1.", _layers),
        ("A step of training: torch/ours in time, ours/torch in memory.", _training),
        ("Inference of fused networks, peer/ours.", _inference),
        ("Families of functions, torch/ours: geometric mean, worst row, rows under 1.", _families),
    ):
        rows = table(documents)
        if len(rows) > 2:
            parts.append(f"{head}\n\n" + "\n".join(rows))
    return "\n\n".join([*parts, *_sentences(documents)])


def _sentences(documents):
    """What is told of a command in a line."""
    for document in documents:
        if "steps" in document:
            worst = document["steps"][0]
            yield (
                f"One more of something next to a power of two changes the time of an operation by at most "
                f"{worst['step']:.2f} times ({worst['varies']} {worst['values'][0]} and {worst['values'][1]}, "
                f"{worst['window']}, threads: {document['machine']['threads']})."
            )
        if "processes" in document:
            after = numpy.median([one["process"] for one in document["processes"]]) * 1e3
            yield f"A new process has its first convolution after {after:.0f} ms on a CPU."


def _machine(documents):
    facts = documents[0]["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if version)
    taken = [one.get("others_cores") for document in documents for one in _measured(document)]
    noisy = sum((cores or 0) > BUSY_CORES for cores in taken)
    return (
        f"Float32, {facts['cpu']}, {facts['cores']} cores; {versions}; commit {str(facts['commit'])[:12]}, "
        f"{facts['timestamp'][:10]}.\nAbove 1 fastconv is faster. During {noisy} of {len(taken)} measurements other "
        f"processes took more than {BUSY_CORES} cores."
    )


def _measured(document):
    return document.get("rows") or document.get("layouts") or []


def _row(*cells):
    return f"| {' | '.join(map(str, cells))} |"


def _table(*heads):
    return [_row(*heads), _row(*["---"] * len(heads))]


def _layers(documents):
    rows = _table("suite", "threads", "channels", *_DIRECTIONS.values())
    for document in documents:
        if "suite" not in document:
            continue
        found = {(mean.layout, mean.direction): mean for mean in means(document)}
        for layout, word in _LAYOUTS.items():
            cells = [found.get((layout, direction)) for direction in _DIRECTIONS]
            if any(cells):
                texts = [f"{m.ratio:.2f} ({_worst(m.worst)}; {m.lost} of {m.rows})" if m else "-" for m in cells]
                rows.append(_row(document["suite"], document["machine"]["threads"], word, *texts))
    return rows


def _worst(worst):
    return f"{worst[0]:.2f} {worst[1]}"


def _training(documents):
    rows = _table("network", "threads", "channels", "ours", "torch", "time", "memory")
    for document in documents:
        for one in document.get("layouts", ()):
            if one["time_ratio"]:
                memory = "-" if one["memory_ratio"] is None else f"{one['memory_ratio']:.2f}"
                figures = f"{one['ours_ms']:.1f} ms", f"{one['peer_ms']:.1f} ms", f"{one['time_ratio'][0]:.2f}", memory
                name = f"{document['network']} x {document['batch']}"
                rows.append(_row(name, document["machine"]["threads"], _LAYOUTS[one["layout"]], *figures))
    return rows


def _inference(documents):
    rows = _table("network", "threads", "channels", "peer", "ours", "peer's", "ratio")
    for document in documents:
        for one in _measured(document):
            if "network" in one and one["status"] == "ok":
                figures = f"{one['ours_ms']:.2f} ms", f"{one['peer_ms']:.2f} ms", f"{one['ratio'][0]:.2f}"
                name = f"{one['network']} x {one['shape'][0]}"
                layout = _LAYOUTS[one["layout"]]
                rows.append(_row(name, document["machine"]["threads"], layout, one["peer"], *figures))
    return rows


def _families(documents):
    rows = _table("family", "threads", "forward", "backward")
    for document in documents:
        cells = []
        for direction in ("forward", "backward"):
            found = [
                (one["ratio"][0], one["function"])
                for one in _measured(document)
                if "function" in one and one["direction"] == direction and one.get("ratio")
            ]
            lost = sum(ratio < 1 for ratio, _ in found)
            mean = geometric_mean(ratio for ratio, _ in found)
            cells.append(f"{mean:.2f} ({_worst(min(found))}; {lost} of {len(found)})" if found else "-")
        if any(cell != "-" for cell in cells):
            rows.append(_row(document["family"], document["machine"]["threads"], *cells))
    return rows
