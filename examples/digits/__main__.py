"""`python -m examples.digits`: train the network, save it, time it, and write the report."""

import argparse
import contextlib
import datetime
import sys
import time
from pathlib import Path

import numpy

import fastconv
from bench import machine
from examples.digits import data, network, training
from fastconv import config

_NEEDED = ("sklearn", "matplotlib")


def main(arguments=None):
    """Run the demo.

    Args:
        arguments: Words of the command line, or None for those of the process.

    Returns:
        The exit status: 0 if the goal was reached, 1 if not, 2 if something is not installed.
    """
    options = parser().parse_args(arguments)
    try:
        from examples.digits import report

        digits = data.load()
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        print(f"the demo needs {error.name}: pip install 'fastconv[demo]', or make demo", file=sys.stderr)
        return 2
    if options.threads is not None:
        fastconv.set_num_threads(options.threads)
    threads = fastconv.get_num_threads()
    settings = training.Settings(seed=options.seed)
    if options.epochs is not None:
        settings = settings._replace(epochs=options.epochs)

    net, history, seconds = _train(digits, settings, threads)
    options.out.mkdir(parents=True, exist_ok=True)
    state = net.state_dict()
    numpy.savez(options.out / "weights.npz", **state)
    fingerprint = training.fingerprint(state)
    print(f"weights: {options.out / 'weights.npz'}, SHA-256 {fingerprint}")

    run = report.Run(
        settings=settings,
        history=history,
        train_count=len(digits.train_classes),
        scans=digits.test_scans,
        classes=digits.test_classes,
        log_probabilities=training.predict(net, digits.test_scans),
        filters=state["0.weight"],
        fingerprint=fingerprint,
        seconds=seconds,
        threads=threads,
        speed=_time_steps(threads, options.torch),
        facts=config.facts(),
        commit=machine.facts(threads)["commit"],
        finished=datetime.datetime.now().astimezone().strftime("%d %B %Y, %H:%M %Z"),
    )
    page = options.out / "report.html"
    page.write_text(report.render(run), encoding="utf-8")
    print(f"report: {page}")
    print(f"held-out accuracy {run.accuracy:.2%}, {run.misread} of {len(run.classes)} scans misread, "
          f"trained in {seconds:.1f} s")  # fmt: skip
    if run.accuracy < report.GOAL:
        print(f"below the goal of {report.GOAL:.1%}", file=sys.stderr)
        return 1
    return 0


def parser():
    """The argument parser of the command."""
    root = argparse.ArgumentParser(prog="python -m examples.digits", description=__doc__.partition(": ")[2])
    root.add_argument("--epochs", type=_at_least(1), metavar="N", help="how often every scan is seen")
    root.add_argument("--threads", type=_at_least(1), metavar="N", help="threads; the weights do not depend on it")
    root.add_argument("--seed", type=_at_least(0), default=0, metavar="S", help="of all chance in the training (0)")
    root.add_argument("--out", type=Path, default=Path("build/demo"), metavar="DIR", help="where to (build/demo)")
    root.add_argument("--no-torch", dest="torch", action="store_false", help="leave out the comparison of speed")
    return root


def _at_least(least):
    def number(word):
        value = int(word)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is below {least}")
        return value

    return number


def _train(digits, settings, threads):
    """The trained network, its history, and how many seconds that took."""
    print(f"fastconv {fastconv.__version__}: {len(digits.train_classes):,} scans to train on, "
          f"{len(digits.test_classes)} held out, {settings.epochs} epochs, seed {settings.seed}, threads: {threads}",
          flush=True)  # fmt: skip
    fastconv.manual_seed(settings.seed)
    net = network.build_network(fastconv.nn)
    start = time.perf_counter()
    with _progress(settings.epochs, training.steps_per_epoch(digits, settings)) as (after_epoch, after_step):
        history = training.train(net, digits, settings, after_epoch, after_step)
    return net, history, time.perf_counter() - start


@contextlib.contextmanager
def _progress(epochs, steps):
    """(after_epoch, after_step): a bar on a terminal, a line an epoch elsewhere."""
    done = []

    def line(epoch):
        done.append(epoch)
        print(f"epoch {len(done):2}/{epochs}  train loss {epoch.train.loss:.4f}, {epoch.train.accuracy:7.2%}  "
              f"held out {epoch.test.loss:.4f}, {epoch.test.accuracy:7.2%}", flush=True)  # fmt: skip

    bar_of = _tqdm() if sys.stderr.isatty() else None
    if bar_of is None:
        yield line, lambda: None
        return
    with bar_of(total=epochs * steps, unit="step", dynamic_ncols=True, leave=False) as bar:

        def after_epoch(epoch):
            bar.set_postfix_str(f"held out {epoch.test.accuracy:.2%}", refresh=False)

        yield after_epoch, bar.update


def _tqdm():
    """The bar of tqdm, or None where it is not installed: lines do as well."""
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        return None
    return tqdm


def _time_steps(threads, with_torch):
    """Time a step, telling on a terminal how far that is."""
    from examples.digits import speed

    shown = sys.stderr.isatty()

    def tell(text):
        sys.stderr.write(f"\r\x1b[Ktiming a training step: {text}")
        sys.stderr.flush()

    measured = speed.measure(threads, with_torch, progress=tell if shown else lambda text: None)
    if shown:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
    ratio = measured.timing.ratio()
    beside = f"PyTorch {measured.timing.peer_ms:.2f} ms" if ratio else f"PyTorch {measured.why_no_peer}"
    print(f"training step, batch 64: fastconv {measured.timing.ours_ms:.2f} ms; {beside}", flush=True)
    return measured


if __name__ == "__main__":
    sys.exit(main())
