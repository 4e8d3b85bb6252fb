"""`python -m bench gates`: compare with the committed numbers, or write them anew."""

import importlib.util
import pathlib

from bench.gates import files, sass, trace
from bench.process import ROOT
from fastconv.errors import DeviceError


def extension(name="_cuda"):
    """Path of a compiled extension of this checkout or of the installed fastconv, or None.

    Args:
        name: "_cuda", or one of the emulated ones.
    """
    beside = sorted(ROOT.joinpath("fastconv").glob(f"{name}.*so"))
    if beside:
        return beside[0]
    spec = importlib.util.find_spec(f"fastconv.{name}")
    return spec and pathlib.Path(spec.origin)


def gates(options):
    """Run the gates that the options name, both unless they name one.

    Args:
        options: Options of the command: sass, trace, update.

    Returns:
        The exit status: 0, 1 where a number is worse than committed, 2 where there is nothing to measure.
    """
    chosen = [name for name in _MEASURES if getattr(options, name)] or list(_MEASURES)
    status = 0
    for name in chosen:
        measured, lacking = _MEASURES[name]()
        if lacking:
            print(f"{name}: {lacking}")
            status = max(status, 2)
            continue
        committed = files.load(name)
        if options.update:
            committed = {**(committed if name == "sass" else {}), **measured}  # of other architectures stays
            files.dump(name, committed)
        found = _PROBLEMS[name](committed, measured)
        entries = sum(len(entries) for group, entries in measured.items() if group != sass.COMPILER)
        print("\n".join([f"{name}: {entries} entries, {len(found)} problems", *found]))
        status = max(status, int(bool(found)))
    return status


def measured_sass():
    """(numbers, None) of the machine code of fastconv._cuda, or (None, what is lacking)."""
    built = extension()
    if built is None:
        return None, "fastconv._cuda is not built; FASTCONV_CUDA=on pip install -e '.[test]' builds it"
    try:
        return sass.measure(built), None
    except sass.ToolError as error:
        return None, str(error)


def measured_trace():
    """(numbers, None) of the rows of bench/gates/rows, or (None, what is lacking)."""
    try:
        return trace.measure(), None
    except DeviceError as error:
        return None, f"{error}; FASTCONV_EMULATOR=trace pip install -e '.[test]' builds it, as make test does"


_MEASURES = {"sass": measured_sass, "trace": measured_trace}
_PROBLEMS = {"sass": sass.problems, "trace": trace.problems}
