"""The pictures of the report, as text that stands in the page itself."""

import base64
import io
import re

import matplotlib

matplotlib.use("agg")  # no window, no display

from matplotlib import colors, image, pyplot, ticker

# matplotlib draws in these colours; in the page they become those of its style sheet, dark or light.
_INK, _FAINT, _TRAIN, _TEST, _GOAL = "#010101", "#010102", "#010103", "#010104", "#010105"
_IN_PAGE = {_INK: "ink", _FAINT: "rule", _TRAIN: "train", _TEST: "test", _GOAL: "goal"}

_STYLE = {
    "svg.fonttype": "none",  # text stays text, in the font of the page
    "svg.hashsalt": "digits",  # the same curves give the same file
    "font.size": 9.5,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": _FAINT,
    "grid.linewidth": 0.5,
    "text.color": _INK,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "savefig.transparent": True,
}


def curves(history, goal):
    """Loss and accuracy after each epoch, side by side.

    Args:
        history: List of Epochs.
        goal: Accuracy that is drawn as a line.

    Returns:
        An svg element.
    """
    epochs = range(1, len(history) + 1)
    with matplotlib.rc_context(_STYLE):
        figure, (loss, accuracy) = pyplot.subplots(1, 2, figsize=(9.2, 2.55), layout="constrained")
        figure.get_layout_engine().set(wspace=0.08)
        for name, color, width in (("train", _TRAIN, 1.3), ("test", _TEST, 2.0)):
            scores = [getattr(epoch, name) for epoch in history]
            style = dict(color=color, linewidth=width, marker="o", markersize=2.6 if len(history) < 40 else 0)
            loss.plot(epochs, [score.loss for score in scores], **style)
            accuracy.plot(epochs, [100 * score.accuracy for score in scores], **style)
        _loss_axes(loss)
        _accuracy_axes(accuracy, history, 100 * goal)
        for axes in (loss, accuracy):
            axes.set_xlim(1 - 0.02 * len(history), len(history) + 0.02 * len(history))
            axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, nbins=8, steps=(1, 2, 5, 10)))
            axes.set_xlabel("epoch")
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        pyplot.close(figure)
    return _for_page(text.getvalue(), "Loss and accuracy after each epoch, of the training and of the held-out scans")


def _loss_axes(axes):
    axes.set_title("Cross-entropy loss, logarithmic", loc="left", fontsize=9.5)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(ticker.NullLocator())


def _accuracy_axes(axes, history, goal):
    """From just below the later epochs up to 100 %: the first may come in from below the frame."""
    axes.set_title("Accuracy, per cent", loc="left", fontsize=9.5)
    later = history[len(history) // 4 :]
    lowest = min(100 * min(epoch.train.accuracy, epoch.test.accuracy) for epoch in later)
    bottom = min(lowest, goal) - 0.5
    axes.set_ylim(bottom, 100 + 0.05 * (100 - bottom))
    axes.axhline(goal, color=_GOAL, linewidth=1, dashes=(5, 3))
    axes.annotate(f"goal {goal:g}", (1, goal), (0, -3), textcoords="offset points", va="top", ha="right",
                  xycoords=("axes fraction", "data"), color=_GOAL, fontsize=8.5)  # fmt: skip


def _for_page(svg, title):
    """The svg element alone, in the page's colours, filling its place; namespaces are implied in HTML."""
    svg = svg[svg.index("<svg") :]
    for color, name in _IN_PAGE.items():
        svg = svg.replace(color, f"var(--{name})")
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)
    svg = re.sub(r"<svg [^>]*?viewBox=\"([^\"]*)\"[^>]*>", rf'<svg role="img" aria-label="{title}" viewBox="\1">', svg)
    return re.sub(r"\n\s*", "\n", svg)


def scan(pixels):
    """A scan as a picture, ink on paper.

    Args:
        pixels: [H, W], 0 is paper and 1 the darkest ink.

    Returns:
        A data URI.
    """
    return _png(1 - pixels, "gray", 0, 1)


def weights(kernel, largest):
    """A filter as a picture: blue below zero, pale at zero, red above.

    Args:
        kernel: [R, S].
        largest: The absolute value that gets the full colour.

    Returns:
        A data URI.
    """
    return _png(kernel, colors.LinearSegmentedColormap.from_list("weights", ("#2b5fa8", "#f1efea", "#c0392b")),
                -largest, largest)  # fmt: skip


def _png(values, colormap, low, high):
    """One pixel a value: the page enlarges it without smoothing."""
    file = io.BytesIO()
    image.imsave(file, values, cmap=colormap, vmin=low, vmax=high, format="png", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
