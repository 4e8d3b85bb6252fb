"""The report of a training: one page of HTML that needs nothing beside itself."""

import html
import math
from pathlib import Path
from typing import NamedTuple

import numpy

from bench.report import BUSY_CORES
from examples.digits import figures
from examples.digits.speed import Speed
from examples.digits.training import Settings

GOAL = 0.985  # what a healthy installation reaches with any seed

_SHOWN = 24  # scans, two rows of them
_THIN = "\N{NARROW NO-BREAK SPACE}"


class Run(NamedTuple):
    """Everything that the report tells.

    Attributes:
        settings: Settings of the training.
        history: A list of Epochs.
        train_count: Scans that were trained on.
        scans: The held-out scans, [N, 1, 8, 8].
        classes: Their digits, [N].
        log_probabilities: What the network makes of them, [N, 10].
        filters: Weights of the first layer, [K, 1, R, S].
        fingerprint: SHA-256 of all weights.
        seconds: How long the training took, compilation and measuring included.
        threads: Threads that it ran on.
        speed: Speed of a step.
        facts: fastconv.config.facts().
        commit: The commit of the checkout, or None.
        finished: Date and time as text.
    """

    settings: Settings
    history: list
    train_count: int
    scans: numpy.ndarray
    classes: numpy.ndarray
    log_probabilities: numpy.ndarray
    filters: numpy.ndarray
    fingerprint: str
    seconds: float
    threads: int
    speed: Speed
    facts: dict
    commit: str | None
    finished: str

    @property
    def predicted(self):
        """The digit that the network takes each scan for."""
        return self.log_probabilities.argmax(axis=1)

    @property
    def misread(self):
        """How many held-out scans are read wrong."""
        return int((self.predicted != self.classes).sum())

    @property
    def accuracy(self):
        """Share of the held-out scans that are read right."""
        return 1 - self.misread / len(self.classes)


def render(run):
    """The report as text.

    Args:
        run: A Run.

    Returns:
        A whole HTML document.
    """
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    title = f"{percent(run.accuracy)} of unseen digits read right"
    parts = (
        _head(run, title),
        _numbers(run),
        _curves(run),
        f'<div class="columns">{_confusion(run)}<div class="stack">{_filters(run)}{_speed(run)}</div></div>',
        _scans(run),
        _foot(run),
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>fastconv: {title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def percent(share, digits=2):
    """A share in per cent, without zeros at its end."""
    text = f"{100 * share:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}{_THIN}%"


def interval(right, count):
    """Bounds between which the true accuracy lies with 95 % confidence, judged from so many scans.

    Source: E. B. Wilson, Probable Inference, the Law of Succession, and Statistical Inference, 1927.
    """
    z = 1.959964
    share, spread = right / count, z * z / count
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def _head(run, title):
    good = run.accuracy >= GOAL
    verdict = f"goal of {percent(GOAL)} reached" if good else f"below the goal of {percent(GOAL)}"
    return f"""<header>
<div><p class="kicker">fastconv {html.escape(run.facts["fastconv"])} · demonstration on handwritten digits</p>
<h1>{title}</h1></div>
<p class="verdict{"" if good else " bad"}">{verdict}</p>
<p class="lead">A small convolutional network learned from {run.train_count:,} scans of handwritten digits,
8 &times; 8 pixels each, and was then asked for {len(run.classes):,} others that it had never seen. Forward pass,
gradients and optimiser are fastconv&rsquo;s, on NumPy arrays.</p>
</header>"""


def _numbers(run):
    count = len(run.classes)
    low, high = interval(count - run.misread, count)
    effort = f"{plural(run.settings.epochs, 'epoch')} on {plural(run.threads, 'thread')}"
    rows = [
        (
            "To expect of further scans",
            f"{percent(low)} to {percent(high)}",
            f"95{_THIN}% interval of the accuracy",
        ),
        ("Scans misread", f"{run.misread} of {count}", "shown below" if run.misread else "none"),
        ("Training", seconds(run.seconds), effort),
        ("One step, 64 scans", f"{run.speed.timing.ours_ms:.2f}{_THIN}ms", _beside(run.speed)),
    ]
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>" for name, value, note in rows)
    return f'<dl class="numbers">{cells}</dl>'


def _beside(speed):
    ratio = speed.timing.ratio()
    words = f"PyTorch takes {ratio[0]:.2f} times as long" if ratio else f"PyTorch {speed.why_no_peer}"
    return f"{words}; disturbed" if disturbed(speed) else words


def disturbed(speed):
    """Whether other processes took so much that the times do not count."""
    return (speed.others or 0) > BUSY_CORES


def _curves(run):
    return f"""<section>
<h2>Learning</h2>
<p class="note"><span class="key train"><span>training scans</span></span> &ensp;
<span class="key test"><span>held-out scans</span></span> &ensp; both measured after each epoch without dropout or
augmentation. The weights are those after the last epoch; the held-out scans chose nothing.</p>
{figures.curves(run.history, GOAL)}
</section>"""


def _confusion(run):
    table = numpy.zeros((10, 10), int)
    numpy.add.at(table, (run.classes, run.predicted), 1)
    rows = []
    for digit, counts in enumerate(table):
        cells = "".join(_cell(count, digit == other) for other, count in enumerate(counts))
        total = counts.sum()
        found = percent(counts[digit] / total, 1) if total else "&ndash;"
        rows.append(f'<tr><th scope="row">{digit}</th>{cells}<td class="found">{found}</td></tr>')
    heads = "".join(f'<th scope="col">{digit}</th>' for digit in range(10))
    return f"""<section>
<h2>What was taken for what</h2>
<p class="note">Rows are the true digits, columns what the network read; on the right, the share of each digit that was
found.</p>
<table class="confusion"><tr><th scope="row"></th>{heads}<th class="found"></th></tr>{"".join(rows)}</table>
</section>"""


def _cell(count, right):
    if not count:
        return "<td></td>"
    return f'<td class="{"hit" if right else "miss"}">{count}</td>'


def _filters(run):
    largest = float(numpy.abs(run.filters).max())
    pictures = "".join(f'<img alt="filter {i}" src="{figures.weights(kernel[0], largest)}">'
                       for i, kernel in enumerate(run.filters))  # fmt: skip
    return f"""<section>
<h2>What the first layer looks for</h2>
<p class="note">Its {len(run.filters)} learned filters of 3 &times; 3 weights: blue below zero, red above, full colour
at &plusmn;{largest:.2f}.</p>
<div class="filters">{pictures}</div>
</section>"""


def _speed(run):
    timing = run.speed.timing
    lines = [_speed_row(f"fastconv {run.facts['fastconv']}", timing.ours)]
    notes = [
        f"Forward pass, gradients and an SGD step of this network, batch 64, float32, "
        f"{plural(run.speed.threads, 'thread')}."
    ]
    ratio = timing.ratio()
    if ratio:
        lines.append(_speed_row(f"PyTorch {html.escape(run.speed.peer_version)}", timing.peer))
        notes.append(
            f"PyTorch takes {ratio[0]:.2f} times as long, the median over {plural(len(timing.ours), 'pair')} of turns "
            f"(quartiles {ratio[1]:.2f} to {ratio[2]:.2f}); each library in a process of its own, in alternation."
        )
    else:
        notes.append(f"PyTorch {run.speed.why_no_peer}, so there is nothing to compare with.")
    if disturbed(run.speed):
        notes.append(
            f"Disturbed: other processes took {run.speed.others:.1f} cores meanwhile, so these times do not count."
        )
    return f"""<section>
<h2>How fast it trains</h2>
<table class="speed">
<tr><th scope="col">a training step</th><th scope="col">median</th><th scope="col">quartiles</th></tr>
{"".join(lines)}</table>
<p class="note">{" ".join(notes)}</p>
</section>"""


def _speed_row(name, seconds_each):
    low, middle, high = (1e3 * float(q) for q in numpy.quantile(seconds_each, (0.25, 0.5, 0.75)))
    return f"<tr><td>{name}</td><td>{middle:.2f}{_THIN}ms</td><td>{low:.2f} to {high:.2f}{_THIN}ms</td></tr>"


def _scans(run):
    """Those misread, the surest first; then those that were nearly misread."""
    sure = run.log_probabilities.max(axis=1)
    wrong = run.predicted != run.classes
    misread = sorted(numpy.flatnonzero(wrong), key=lambda i: -sure[i])
    unsure = sorted(numpy.flatnonzero(~wrong), key=lambda i: sure[i])
    shown = misread[:_SHOWN]
    free = -len(shown) % (_SHOWN // 2) or (0 if shown else _SHOWN // 2)
    cards = [_card(run, i, "wrong") for i in shown] + [_card(run, i, "right") for i in unsure[:free]]
    cut = f", the {_SHOWN} surest of {run.misread}" if run.misread > _SHOWN else ""
    first = f"Misread scans come first{cut}: <b>true digit</b> → what was read. " if misread else ""
    return f"""<section class="wide">
<h2>{"Where it went wrong, and where it nearly did" if misread else "Where it nearly went wrong"}</h2>
<p class="note">{first}{"Then the" if misread else "The"} scans it was least sure of and still read right. Below each,
the probability that the network gave to what it read.</p>
<div class="scans">{"".join(cards)}</div>
</section>"""


def _card(run, index, kind):
    truth, read = run.classes[index], run.predicted[index]
    probability = percent(math.exp(run.log_probabilities[index, read]), 0)
    words = f"<b>{truth} → {read}</b>" if kind == "wrong" else f"<b>{truth}</b>"
    picture = figures.scan(run.scans[index, 0])
    return (f'<figure class="{kind}"><img alt="scan of a {truth}" src="{picture}">'
            f"<figcaption>{words}<small>{probability}</small></figcaption></figure>")  # fmt: skip


def _foot(run):
    facts, settings = run.facts, run.settings
    versions = ", ".join(f"{name} {version}" for name, version in facts["packages"].items() if version)
    cpu = facts["cpu"]
    short = [
        ("Processor", f"{cpu['name']}, {plural(cpu['cores'], 'core')}, {cpu['vector'] or 'unknown vectors'}"),
        ("System", f"{facts['platform']}"),
        ("Python", f"{facts['python']}, {versions}"),
        ("Commit", commit(run.commit)),
        (
            "Training",
            f"AdamW, one cycle up to a rate of {settings.max_lr:g}, weight decay {settings.weight_decay:g}, batch "
            f"{settings.batch}; scans moved by up to {settings.shift:g} pixel, noise {settings.noise:g}",
        ),
        ("Chosen by", "cross-validation within the training scans"),
        ("Seed", str(settings.seed)),
        ("Finished", run.finished),
    ]
    cells = "".join(f"<dt>{name}</dt><dd>{html.escape(value)}</dd>" for name, value in short)
    return f"""<footer><dl>{cells}
<dt>Weights</dt><dd class="whole">SHA-256 {run.fingerprint}, the same for any number of threads</dd>
<dt>Data</dt><dd class="whole">Optical Recognition of Handwritten Digits, Alpaydin and Kaynak 1998, as in scikit-learn;
a quarter held out, digit by digit</dd></dl></footer>"""


def commit(name):
    """A commit to be read: twelve digits of it, and whether files differ."""
    if name is None:
        return "unknown, not a git checkout"
    digits, _, changes = name.partition("+")
    return f"{digits[:12]}{' with uncommitted changes' if changes else ''}"


def seconds(value):
    """A time in seconds, or from two minutes on in minutes."""
    return f"{value:.1f}{_THIN}s" if value < 120 else f"{value / 60:.1f}{_THIN}min"


def plural(count, noun):
    """A count with its noun."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
