"""How much scratch memory a call may take from the pool, beyond its results and dense copies of its arguments.

A reduction over a long axis is split among many blocks and its partial sums lie in scratch memory. With less of it
there are fewer splits; with none a single block sums everything: slower, and the same operator. The number of splits
decides the order of a sum, so that results are the same bits as long as the limit is the same.
"""

import contextlib
import contextvars

from fastconv.errors import DTypeError, ShapeError

_DEFAULT = 256 * 2**20

_limit = contextvars.ContextVar("fastconv_max_workspace", default=_DEFAULT)


@contextlib.contextmanager
def max_workspace(nbytes):
    """Within the block, no call takes more scratch memory than this.

    Args:
        nbytes: At most so many bytes a call; 0 for none at all.

    Returns:
        A context manager, local to the thread or task that enters it.

    Raises:
        DTypeError: nbytes is no int.
        ShapeError: nbytes is negative.
    """
    if not isinstance(nbytes, int) or isinstance(nbytes, bool):
        raise DTypeError("max_workspace", "nbytes", repr(nbytes), "an int")
    if nbytes < 0:
        raise ShapeError("max_workspace", "nbytes", nbytes, "at least 0")
    token = _limit.set(nbytes)
    try:
        yield
    finally:
        _limit.reset(token)


def get_max_workspace():
    """Most bytes of scratch memory that a call may take now."""
    return _limit.get()
