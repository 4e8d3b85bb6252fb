"""Which kernel serves a call: one table an operator, read from the top, the first row that fits is taken.

A row is the name of an algorithm and a condition on the problem; the last row of a table fits everything. The
launcher in csrc takes the algorithm by this name and has no opinion of its own.
"""

import contextlib
import contextvars
from typing import NamedTuple

from fastconv.errors import ShapeError

_forced = contextvars.ContextVar("fastconv_algorithms", default=())  # (operator, algorithm) pairs


class Problem(NamedTuple):
    """What an algorithm is chosen by.

    Attributes:
        window: The Window of a convolution or pooling, the Plan of a normalisation, or None.
        dtype: Name of the dtype.
        last: Whether the arrays are stored channels last.
        architecture: Compute capability of the device, 80 for 8.0 and 90 for 9.0; 90 under the emulator.
        shape: Shape of the first array.
    """

    window: object
    dtype: str
    last: bool
    architecture: int
    shape: tuple


def anything(problem):
    """The condition of the last row of every table."""
    return True


def is_depthwise(problem):
    """Every filter sees one channel."""
    window = problem.window
    return window.groups == window.channels and window.channels > 1


TABLES = {}


def register(operator, *rows):
    """Give an operator its table.

    Args:
        operator: Name in fastconv.backend.OPERATORS.
        rows: (algorithm, condition) pairs; the condition of the last is `anything`.
    """
    TABLES[operator] = rows


def choose(operator, problem):
    """The algorithm for a problem: that of use_algorithm, or the first in the operator's table that fits.

    Raises:
        ShapeError: The algorithm asked for does not fit the problem.
    """
    rows = TABLES[operator]
    forced = dict(_forced.get()).get(operator)
    if forced is None:
        return next(algorithm for algorithm, fits in rows if fits(problem))
    if not dict(rows)[forced](problem):
        raise ShapeError(operator, "algorithm", repr(forced), "one that serves this problem", f"{problem}")
    return forced


@contextlib.contextmanager
def use_algorithm(operator, algorithm):
    """Within the block, an operator runs by the named algorithm: for benchmarks and tests of one kernel.

    Args:
        operator: Name in fastconv.backend.OPERATORS, such as "conv_forward".
        algorithm: Name in the operator's table, such as "implicit_gemm".

    Returns:
        A context manager, local to the thread or task that enters it.

    Raises:
        ShapeError: There is no such operator or algorithm.
    """
    if operator not in TABLES:
        raise ShapeError("use_algorithm", "operator", repr(operator), " or ".join(sorted(TABLES)))
    names = [name for name, _ in TABLES[operator]]
    if algorithm not in names:
        raise ShapeError("use_algorithm", "algorithm", repr(algorithm), " or ".join(names))
    token = _forced.set((*_forced.get(), (operator, algorithm)))
    try:
        yield
    finally:
        _forced.reset(token)
