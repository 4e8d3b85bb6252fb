"""The command line: python -m fastconv {info,check}."""

import argparse
import contextlib
import json
import os
import shutil
import sys

from fastconv import config
from fastconv._version import __version__
from fastconv.check import check, planned
from fastconv.errors import FastconvError

_BAR = 30  # characters


def main(arguments=None):
    """Run the command line.

    Args:
        arguments: Words of the command line, or None for those of the process.

    Returns:
        The exit status: 0 if all is well, 1 if the check failed, 2 if the command makes no sense.
    """
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except FastconvError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 -- Python flushes it when it ends
        return 0


def _parser():
    root = argparse.ArgumentParser(
        prog="python -m fastconv", description="What fastconv is here, and whether it works."
    )
    root.add_argument("--version", action="version", version=f"fastconv {__version__}")
    commands = root.add_subparsers(dest="command", required=True, metavar="{info,check}")
    info = commands.add_parser("info", help="print what this installation is and can do")
    info.add_argument("--json", action="store_true", help="as JSON")
    info.set_defaults(run=_info)
    checked = commands.add_parser(
        "check", help="compare every operator and gradient of every backend here with the reference"
    )
    checked.add_argument(
        "--backend",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="only these; reference compares the reference with loops",
    )
    checked.add_argument("--op", default="*", metavar="PATTERN", help="only operators that match, such as 'conv*'")
    checked.add_argument("--quick", action="store_true", help="fewer cases, for a first look")
    checked.add_argument("--json", metavar="FILE", help="write the results to FILE")
    checked.add_argument("--list", action="store_true", help="print the cases and run none")
    checked.set_defaults(run=_check)
    return root


def _info(options):
    if options.json:
        print(json.dumps(config.facts(), indent=2))
    else:
        config.show_config()
    return 0


def _check(options):
    if options.list:
        return _list(options)
    if options.json:
        try:
            with open(options.json, "a", encoding="utf-8"):
                pass  # refused now, and not after minutes
        except OSError as error:
            return _refuse(f"check: --json {options.json}: {error.strerror}")
    with _bar() as progress:
        report = check(options.backend, options.op, options.quick, progress)
    print(report)
    if options.json:
        try:
            with open(options.json, "w", encoding="utf-8") as file:
                json.dump(report.to_dict(), file, indent=2)
                file.write("\n")
        except OSError as error:
            return _refuse(f"check: --json {options.json}: {error.strerror}")
    return 0 if report.ok else 1


def _list(options):
    plan, _ = planned(options.backend, options.op, options.quick)
    for name, cases in plan.items():
        for case in cases:
            print(f"{name}  {case.operator}  {case.dtype}  {case.name}")
    return 0


def _refuse(message):
    print(message, file=sys.stderr)
    return 2


@contextlib.contextmanager
def _bar():
    """A function that draws progress on a terminal, or None where stderr is none."""
    if not sys.stderr.isatty():
        yield None
        return

    def draw(done, total, text):
        filled = _BAR * done // max(total, 1)
        line = f"[{'#' * filled}{'.' * (_BAR - filled)}] {done}/{total} {text}"
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r{line[:width]:<{width}}")
        sys.stderr.flush()

    try:
        yield draw
    finally:
        sys.stderr.write(f"\r{'':<{shutil.get_terminal_size().columns - 1}}\r")
        sys.stderr.flush()
