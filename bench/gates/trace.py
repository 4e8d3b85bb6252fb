"""Memory traffic of kernels, counted by the trace build of the emulator.

The counts are exact and the same in every run. They are those of the source as g++ compiles it, without a cache: the
emulator knows no L2, so that the bytes of a launch are the distinct sectors that it touches.
"""

import contextlib
import os

from bench.gates import sass
from bench.gates.files import UPDATE
from bench.gates.row import WORD_REUSE
from bench.gates.rows import all_rows

_SECTOR = 32  # bytes

# What may not rise above the committed number.
GATED = ("sectors", "distinct_bytes", "wavefronts", "load_words")


def measure(rows=None, progress=lambda name: None):
    """The numbers of every row.

    Args:
        rows: Rows; those of all families unless given.
        progress: Called with the name of each before it runs.

    Returns:
        A dict from a row's name to a dict from kernel, or "call" for all of them together, to its numbers. A kernel
        has its launches, sectors and the fewest that its requests could need, distinct_bytes, wavefronts of shared
        memory and the fewest; "call" has distinct_bytes and least_bytes, of arguments and results.

    Raises:
        DeviceError: The trace build of the emulator is not there.
    """
    measured = {}
    for row in all_rows() if rows is None else rows:
        progress(row.name)
        measured[row.name] = _measure(row)
    return measured


def _measure(row):
    with _traced() as extension:
        arguments = row.arguments()
        extension.reset_counters()
        extension.set_counting(True)
        results = row.call(*arguments)
        launches = extension.counters()
    kernels = {}
    for launch in launches:
        key = sass.short_name(f"fastconv::{launch.kernel.replace('fastconv::', '')}()")
        _add(kernels.setdefault(key, {}), _numbers(launch.counts))
    arrays = [*arguments, *(results if isinstance(results, tuple) else (results,))]
    call = {
        "distinct_bytes": sum(numbers["distinct_bytes"] for numbers in kernels.values()),
        "least_bytes": sum(array.nbytes for array in arrays if hasattr(array, "nbytes")),
    }
    return {**kernels, "call": call}


def _numbers(counts):
    return {
        "launches": 1,
        "sectors": counts["load_sectors"] + counts["store_sectors"],
        "sectors_minimum": counts["load_sectors_minimum"] + counts["store_sectors_minimum"],
        "distinct_bytes": _SECTOR * (counts["load_sectors_distinct"] + counts["store_sectors_distinct"]),
        "wavefronts": counts["shared_load_wavefronts"] + counts["shared_store_wavefronts"],
        "wavefronts_minimum": counts["shared_load_wavefronts_minimum"] + counts["shared_store_wavefronts_minimum"],
        "load_words": counts["shared_load_words"],
    }


def _add(total, numbers):
    for name, number in numbers.items():
        total[name] = total.get(name, 0) + number


@contextlib.contextmanager
def _traced():
    """Within the block, kernels run in the trace build; what was counted is forgotten at its end."""
    from fastconv.cuda.runtime import emulator

    extension = emulator("trace")
    before = os.environ.get("FASTCONV_EMULATED")
    os.environ["FASTCONV_EMULATED"] = "trace"
    try:
        yield extension
    finally:
        extension.set_counting(False)
        extension.reset_counters()
        if before is None:
            del os.environ["FASTCONV_EMULATED"]
        else:
            os.environ["FASTCONV_EMULATED"] = before


def problems(committed, measured, rows=None):
    """What breaks a rule, is worse than committed, or not committed at all.

    Args:
        committed: Content of trace.json.
        measured: What measure() returned.
        rows: As for measure().

    Returns:
        A list of sentences.
    """
    by_name = {row.name: row for row in (all_rows() if rows is None else rows)}
    found = []
    for name, kernels in measured.items():
        found.extend(f"{name}: {words}" for words in _broken(by_name[name], kernels))
        known = committed.get(name, {})
        for kernel, numbers in kernels.items():
            if kernel not in known:
                found.append(f"{name}, {kernel}: has no committed numbers; {UPDATE} writes them")
                continue
            for number in GATED:
                if numbers.get(number, 0) > known[kernel].get(number, 0):
                    rose = f"{number} rose from {known[kernel].get(number, 0)} to {numbers[number]}"
                    found.append(f"{name}, {kernel}: {rose}")
        found.extend(_gone(f"{name}, {kernel}") for kernel in sorted(set(known) - set(kernels)))
    found.extend(_gone(name) for name in sorted(set(committed) - set(by_name)))
    return found


def _gone(what):
    return f"{what}: is committed and no longer there; {UPDATE} removes it"


def _broken(row, kernels):
    """The rules that a row breaks."""
    for kernel, numbers in kernels.items():
        if kernel == "call":
            continue
        yield from _above(f"{kernel}: sectors", numbers["sectors"], numbers["sectors_minimum"], row.sectors)
        yield from _above(f"{kernel}: wavefronts", numbers["wavefronts"], numbers["wavefronts_minimum"], row.conflicts)
    call = kernels["call"]
    if row.bytes is not None:
        yield from _above("bytes moved", call["distinct_bytes"], call["least_bytes"], row.bytes)
    words = sum(numbers.get("load_words", 0) for numbers in kernels.values())
    if row.multiply_adds is not None and row.multiply_adds < WORD_REUSE * words:
        yield f"{row.multiply_adds / words:.2f} multiply-adds a word of shared memory, expected {WORD_REUSE} or more"


def _above(what, number, minimum, limit):
    if number > limit * minimum:
        yield f"{what} {number}, {number / max(minimum, 1):.2f} of the minimum {minimum}; expected {limit:.2f} at most"
