"""Which kernel serves a call: one table an operator, read from the top, the first row that fits is taken.

A row is the name of an algorithm and a condition on the problem under which it is the one to take; the last row of a
table fits everything. The launchers in csrc do as they are told.
"""

import contextlib
import contextvars
from collections.abc import Callable
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

    geometry: object
    dtype: str
    last: bool
    architecture: int
    shape: tuple


class Row(NamedTuple):
    """One row of a table.

    Attributes:
        algorithm: Its name.
        suits: Whether it is the one to take for a Problem that no row above suits.
        serves: Whether it can compute a Problem at all: what use_algorithm asks.
    """

    algorithm: str
    suits: Callable
    serves: Callable


def anything(problem):
    """The condition of the last row of every table."""
    return True


def is_depthwise(problem):
    """Every filter sees one channel."""
    window = problem.geometry
    return window.groups == window.channels and window.channels > 1


TABLES = {}


def register(operator, *rows):
    """Give an operator its table.

    Args:
        operator: Name in fastconv.backend.OPERATORS.
        rows: (algorithm, suits) or (algorithm, suits, serves), see Row; serves is suits where it is left out. The
            last one suits `anything`.
    """
    TABLES[operator] = tuple(Row(*row, *row[1:2] * (3 - len(row))) for row in rows)


def choose(operator, problem):
    """The algorithm for a problem: that of use_algorithm, or the first in the operator's table that suits.

    Raises:
        ShapeError: The algorithm asked for cannot compute the problem.
    """
    rows = TABLES[operator]
    forced = dict(_forced.get()).get(operator)
    if forced is None:
        return next(row.algorithm for row in rows if row.suits(problem))
    if not any(row.serves(problem) for row in rows if row.algorithm == forced):
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
    names = [row.algorithm for row in TABLES[operator]]
    if algorithm not in names:
        raise ShapeError("use_algorithm", "algorithm", repr(algorithm), " or ".join(names))
    token = _forced.set((*_forced.get(), (operator, algorithm)))
    try:
        yield
    finally:
        _forced.reset(token)
