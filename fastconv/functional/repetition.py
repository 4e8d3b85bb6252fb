"""Elements repeated, and parts of matrices, and the gradients of that."""

from fastconv import backend
from fastconv.arrays import is_float
from fastconv.autograd import raw
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.elementwise import masked
from fastconv.functional.operands import array, as_axis, as_int, as_ints, wrapped
from fastconv.functional.selection import index_select
from fastconv.functional.shape import broadcast_to, reshape, unsqueeze


def repeat(input, *repeats):
    """The whole of input repeated along each axis, as torch.Tensor.repeat.

    Args:
        input: Tensor or array.
        repeats: How often along each axis, ints or one sequence; new axes come first.

    Returns:
        The repeated shape; a Tensor for a Tensor.

    Raises:
        ShapeError: There are fewer numbers than axes, or one is negative.
        DTypeError: input is no array, or a number no int.
    """
    x = array("repeat", "input", input)
    times = as_ints("repeat", "repeats", repeats)
    if len(times) < x.ndim or min(times, default=0) < 0:
        raise ShapeError("repeat", "repeats", list(times), f"at least {x.ndim} numbers, none of them negative")
    shape = (1,) * (len(times) - x.ndim) + x.shape
    pairs = [n for pair in zip(times, shape, strict=True) for n in pair]
    spread = broadcast_to(reshape(input, [n for size in shape for n in (1, size)]), pairs)
    return reshape(spread, [t * n for t, n in zip(times, shape, strict=True)])


def tile(input, dims):
    """The whole of input repeated along its last axes, as torch.tile.

    Args:
        input: Tensor or array.
        dims: How often along each axis, an int or a sequence; axes before the first of them are not repeated.

    Returns:
        The repeated shape; a Tensor for a Tensor.

    Raises:
        ShapeError: A number is negative.
        DTypeError: input is no array, or a number no int.
    """
    x, times = array("tile", "input", input), as_ints("tile", "dims", (dims,))
    return repeat(input, (1,) * (x.ndim - len(times)) + times)


def repeat_interleave(input, repeats, dim=None, *, output_size=None):
    """Each element repeated, as torch.repeat_interleave.

    Args:
        input: Tensor or array.
        repeats: How often, an int; or integers on the CPU, one for each element along the axis.
        dim: The axis; None for the flattened elements.
        output_size: How long the axis becomes, if that is known.

    Returns:
        The longer shape; a Tensor for a Tensor.

    Raises:
        ShapeError: There is no such axis, or repeats are negative, of another number, or not output_size.
        DTypeError: input is no array, or repeats no integers.
    """
    x = array("repeat_interleave", "input", input)
    if dim is None:
        return repeat_interleave(reshape(input, -1), repeats, 0, output_size=output_size)
    axis = as_axis("repeat_interleave", "dim", dim, x.ndim)
    if x.ndim == 0:
        return repeat_interleave(reshape(input, 1), repeats, 0, output_size=output_size)
    if not getattr(raw(repeats), "ndim", 0):
        times, shape = as_int("repeat_interleave", "repeats", repeats), x.shape
        if times < 0:
            raise ShapeError("repeat_interleave", "repeats", times, "at least 0")
        _check_length(output_size, shape[axis] * times)
        spread = broadcast_to(unsqueeze(input, axis + 1), *shape[: axis + 1], times, *shape[axis + 1 :])
        return reshape(spread, *shape[:axis], shape[axis] * times, *shape[axis + 1 :])
    counts = array("repeat_interleave", "repeats", repeats)
    backend.of(x, counts)
    if counts.dtype.kind not in "iu":
        raise DTypeError("repeat_interleave", "repeats", counts.dtype.name, "integers")
    counts = counts.get() if hasattr(counts, "get") else counts
    if counts.ndim != 1 or counts.size not in (1, x.shape[axis]) or (counts < 0).any():
        raise ShapeError("repeat_interleave", "repeats", counts.tolist(), f"{x.shape[axis]} numbers, none negative")
    xp = backend.namespace(x)
    places = [i for i in range(x.shape[axis]) for _ in range(int(counts[i % counts.size]))]
    _check_length(output_size, len(places))
    return index_select(input, axis, xp.asarray(places, dtype="int64"))


def _check_length(wanted, length):
    if wanted is not None and as_int("repeat_interleave", "output_size", wanted) != length:
        raise ShapeError("repeat_interleave", "output_size", wanted, length)


_PART_DOC = """The {what} of matrices, zeros elsewhere, as torch.{name}.

    Args:
        input: [..., M, N].
        diagonal: How far the last diagonal that stays lies above the main one.

    Returns:
        The shape of input; a Tensor for a Tensor.

    Raises:
        ShapeError: input has fewer than 2 axes.
        DTypeError: input is no array, or diagonal no int.
    """


def tril(input, diagonal=0):
    return _part("tril", input, diagonal, lambda columns, limit: columns <= limit)


def triu(input, diagonal=0):
    return _part("triu", input, diagonal, lambda columns, limit: columns >= limit)


tril.__doc__ = _PART_DOC.format(what="lower triangle", name="tril")
triu.__doc__ = _PART_DOC.format(what="upper triangle", name="triu")


def _part(name, input, diagonal, keep):
    x = array(name, "input", input)
    if x.ndim < 2:
        raise ShapeError(name, "input", list(x.shape), "[..., M, N]")
    xp, shift = backend.namespace(x), as_int(name, "diagonal", diagonal)
    kept = xp.asarray(keep(xp.arange(x.shape[-1]), xp.expand_dims(xp.arange(x.shape[-2]), 1) + shift))
    if is_float(x):
        return masked(input, kept)
    return wrapped(xp.where(kept, x, x.dtype.type(0)).astype(x.dtype, copy=False), input)
