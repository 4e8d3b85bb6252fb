"""The command line: python -m bench {run,train,infer,cliffs,choices,activations,...,start,readme,gates}."""

import argparse
import importlib.util
import pathlib
import sys

from bench.choices import choices
from bench.cliffs import cliffs
from bench.families import family
from bench.gates.command import gates
from bench.infer import PEERS, infer
from bench.machine import default_threads
from bench.networks import NETWORKS
from bench.plot import SUFFIXES
from bench.process import WorkerError
from bench.readme import readme
from bench.rows import FAMILIES
from bench.run import DTYPES, LAYOUTS, listing, run
from bench.shapes import ALIASES, DIRECTIONS
from bench.start import start
from bench.train import train
from fastconv.errors import FastconvError

BACKENDS = ("cpu", "reference", "emulated")  # those that compute on NumPy arrays


def parser():
    """The argument parser of the command."""
    root = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    commands = root.add_subparsers(dest="command", required=True)

    one = commands.add_parser("run", help="time a suite of layers beside a peer")
    counts = dict(type=_counts, default=[default_threads()], metavar="N[,N]", help="threads of every library, in turn")
    _common(one, ("cuda", *BACKENDS), counts)
    _peer(one)
    one.add_argument("--suite", help=f"{', '.join(ALIASES)}, pool, tiny, vgg16, a full name, or all; see --list")
    one.add_argument("--rows", default="*", metavar="PATTERN", help="only rows whose name matches, such as 'rn50_0*'")
    one.add_argument("--direction", choices=[*DIRECTIONS, "all"], default="all")
    one.add_argument("--layout", choices=[*LAYOUTS, "both"], default="both")
    one.add_argument("--dtype", choices=DTYPES, default="float32")
    one.add_argument("--batch", type=_positive, metavar="N", help="largest batch; 8 unless told")
    one.add_argument("--gflop", type=float, help="largest work of a call; rows above it are cut")
    one.add_argument("--mb", type=float, help="largest input, weight and output of a call together")
    one.add_argument("--plot", metavar="FILE", help=f"picture of the ratios, {', '.join(SUFFIXES)}")
    one.add_argument("--list", action="store_true", help="list suites, or the rows of --suite, and stop")
    one.set_defaults(function=_run)

    two = commands.add_parser("train", help="time and peak memory of a training step of a network")
    _common(two)
    _peer(two)
    two.add_argument("--network", choices=NETWORKS, default="digits")
    two.add_argument("--layout", choices=[*LAYOUTS, "both"], default="channels_first")
    two.set_defaults(function=train)

    five = commands.add_parser("infer", help="time networks fused for inference beside ONNX Runtime and PyTorch")
    _common(five)
    five.add_argument("--peer", choices=[*PEERS, "all"], default="all")
    five.add_argument("--network", choices=[*NETWORKS, "all"], default="all")
    five.set_defaults(function=infer)

    for name in FAMILIES:
        command = commands.add_parser(name, help=f"time {name} beside a peer")
        _common(command)
        _peer(command)
        command.add_argument("--rows", default="*", metavar="PATTERN", help="only functions whose name matches")
        command.set_defaults(function=family)

    six = commands.add_parser("cliffs", help="look for sizes next to powers of two that are much slower")
    _common(six)
    six.add_argument("--layout", choices=[*LAYOUTS, "both"], default="both")
    six.add_argument("--direction", choices=[*DIRECTIONS, "all"], default="forward")
    six.add_argument("--check", action="store_true", help="fail where a step is too high")
    six.set_defaults(function=cliffs)

    seven = commands.add_parser("choices", help="time the algorithms that a convolution chooses from")
    _common(seven)
    seven.add_argument("--layout", choices=[*LAYOUTS, "both"], default="both")
    seven.set_defaults(function=choices)

    three = commands.add_parser("start", help="time of the import and of the first call in a new process")
    _common(three)
    three.set_defaults(function=start)

    eight = commands.add_parser("readme", help="write the tables of README.md from bench/results/cpu")
    eight.add_argument("--take", nargs="+", metavar="FILE", help="first put these files of --json there, condensed")
    eight.set_defaults(function=readme)

    four = commands.add_parser("gates", help="compare kernels with the committed numbers of bench/gates, no GPU needed")
    four.add_argument("--sass", action="store_true", help="machine code of fastconv._cuda alone")
    four.add_argument("--trace", action="store_true", help="memory traffic under the emulator alone")
    four.add_argument("--update", action="store_true", help="write the numbers anew")
    four.set_defaults(function=gates)
    return root


def _common(command, backends=BACKENDS, threads=None):
    threads = threads or dict(type=_positive, default=default_threads(), help="threads of every library")
    command.add_argument("--backend", choices=backends, default="cpu", help="backend of fastconv")
    command.add_argument("--threads", **threads)
    command.add_argument("--quick", action="store_true", help="smaller problems, fewer rounds")
    command.add_argument("--rounds", type=_positive, help="turns of each library, or processes of `start`")
    command.add_argument("--json", metavar="FILE", help="write all results and samples")


def _peer(command):
    command.add_argument(
        "--peer",
        choices=["torch", *BACKENDS, "none"],
        default="torch",
        help="what to compare with; another backend of fastconv will do",
    )


def _positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def _counts(text):
    return [_positive(part) for part in text.split(",")]


def _run(options):
    if options.list:
        return listing(options)
    if options.suite is None:
        print("bench run: --suite is missing; --list shows what there is", file=sys.stderr)
        return 2
    if options.plot:
        if pathlib.Path(options.plot).suffix not in SUFFIXES:
            print(f"bench run: --plot {options.plot}: the suffix must be one of {', '.join(SUFFIXES)}", file=sys.stderr)
            return 2
        if importlib.util.find_spec("matplotlib") is None:  # said before, not after, the time is spent
            print("bench run: --plot needs matplotlib, which is not installed", file=sys.stderr)
            return 2
    return run(options)


def main(arguments=None):
    """Run the command.

    Args:
        arguments: Words of the command line, those of the process unless given.

    Returns:
        The exit status.
    """
    options = parser().parse_args(arguments)
    try:
        return options.function(options)
    except KeyboardInterrupt:
        return 130
    except WorkerError as error:
        print(error, file=sys.stderr)
        return 1
    except FastconvError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
