"""A picture of a run: one bar a row, its length the paired ratio, with quartiles."""

SUFFIXES = (".svg", ".png", ".pdf")


def plot(rows, options, facts):
    """Write the picture.

    Args:
        rows: Rows of the run; those without a ratio are left out.
        options: Options of the command; `plot` is the file, its suffix the format.
        facts: Facts of the machine.
    """
    import matplotlib

    matplotlib.use("agg")  # no window, no display
    from matplotlib import pyplot

    compared = [row for row in rows if row.ratio is not None]
    if not compared:
        print("nothing to plot: no row was compared with a peer")
        return
    figure, axes = pyplot.subplots(figsize=(9, 1.4 + 0.22 * len(compared)), layout="constrained")
    for place, row in enumerate(compared):
        middle, low, high = row.timing.ratio()
        axes.barh(place, middle - 1, left=1, height=0.7, color="#2a78b5" if middle >= 1 else "#c8553d")
        axes.plot([low, high], [place, place], color="black", linewidth=1)
    axes.set_yticks(range(len(compared)), [_label(row.case) for row in compared], fontsize=7)
    axes.set_ylim(len(compared) - 0.4, -0.6)
    axes.set_xscale("log")
    _ticks(axes, [q for row in compared for q in row.timing.ratio()])
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel(f"{options.peer} time / fastconv time, median and quartiles; right of 1 fastconv is faster")
    axes.set_title(f"{options.suite}, {options.dtype}, {facts['cpu']}, threads: {facts['threads']}", fontsize=9)
    figure.savefig(options.plot)
    pyplot.close(figure)
    print(f"wrote {options.plot}")


def _ticks(axes, ratios):
    """Ticks at round ratios: those that a logarithmic axis chooses are powers of ten."""
    low, high = min([*ratios, 0.8]), max([*ratios, 1.25])
    steps = (0.1, 0.2, 0.25, 0.33, 0.5, 0.67, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 8, 10, 20, 50, 100)
    shown = [s for s in steps if low * 0.9 <= s <= high * 1.1]
    axes.set_xlim(low * 0.9, high * 1.1)
    axes.set_xticks(shown, [f"{s:g}" for s in shown])
    axes.set_xticks([], minor=True)


def _label(case):
    return f"{case.problem.name} {case.direction} {case.layout.removeprefix('channels_')}"
