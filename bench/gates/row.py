"""Row: one call that bench/gates/trace.py holds to numbers.

A row that cannot keep one of the limits below names its own, with the reason beside it.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy

SECTORS = 1.10  # most 32-byte sectors of global memory, in units of the fewest that the requests of a warp could need
BYTES = 1.15  # most bytes that a kernel bound by memory moves, in units of its arguments and results
CONFLICTS = 1.02  # most wavefronts of shared memory, in units of those without bank conflicts: none in a main loop
WORD_REUSE = 8  # fewest multiply-adds of dense float32 for each word that a request takes from shared memory


class Row(NamedTuple):
    """One call and the rules that it keeps.

    Attributes:
        name: Operator, algorithm, format and dtype in a few words; its key in trace.json.
        arguments: Function that makes the arguments: whole tiles and a few blocks, as every access is traced.
        call: Function of these that calls fastconv.cuda, to be computed on the emulator; returns an array or a tuple.
        bytes: Most bytes moved, as BYTES; None for a kernel that arithmetic bounds, or which reads by an index.
        sectors: As SECTORS.
        conflicts: As CONFLICTS.
        multiply_adds: Of the call where it is a dense product in float32, to be held to WORD_REUSE; or None.
    """

    name: str
    arguments: Callable
    call: Callable
    bytes: float | None = BYTES
    sectors: float = SECTORS
    conflicts: float = CONFLICTS
    multiply_adds: int | None = None


def draw(*shape, dtype="float32", last=False):
    """Random numbers of a dtype that NumPy has.

    Args:
        shape: Of the array.
        dtype: Its dtype.
        last: For [N, C, *size], whether C is innermost in memory.
    """
    values = numpy.random.default_rng(0).standard_normal(shape).astype(dtype)
    return numpy.moveaxis(numpy.ascontiguousarray(numpy.moveaxis(values, 1, -1)), -1, 1) if last else values
