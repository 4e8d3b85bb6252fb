"""The same elements in another shape or order, and the gradients of that.

A result is a view of its input where NumPy or CuPy give one.
"""

import math

from fastconv.arrays import is_float, namespace_of
from fastconv.autograd import record
from fastconv.errors import ShapeError
from fastconv.functional.operands import array, as_axis, as_ints, wrapped


def moved(name, y, input, back, saves=()):
    """Record an operator that moves elements; back(dy) moves a gradient to where they came from."""
    if not is_float(y):
        return wrapped(y, input)
    return record(name, y, (input,), lambda dy, _: (lambda: back(dy),), saves)


def reshape(input, *shape):
    """The same elements in another shape, as torch.reshape.

    Args:
        input: Tensor or array.
        shape: Ints, or one sequence of them; one may be -1.

    Returns:
        The new shape; a Tensor for a Tensor.

    Raises:
        ShapeError: The shape does not hold as many elements.
        DTypeError: input is no array, or shape no ints.
    """
    x = array("reshape", "input", input)
    wanted = as_ints("reshape", "shape", shape)
    known = math.prod(n for n in wanted if n != -1)
    fits = x.size == known if -1 not in wanted else known != 0 and x.size % known == 0
    if not fits or wanted.count(-1) > 1 or any(n < -1 for n in wanted):
        raise ShapeError("reshape", "shape", list(wanted), f"a shape of the {x.size} elements of {list(x.shape)}")
    before = x.shape
    return moved("reshape", x.reshape(wanted), input, lambda dy: reshape(dy, before))


def permute(input, *dims):
    """The axes in another order, as torch.permute.

    Args:
        input: Tensor or array.
        dims: Every axis once, as ints or one sequence.

    Returns:
        The permuted shape; a Tensor for a Tensor.

    Raises:
        ShapeError: dims are not every axis once.
        DTypeError: input is no array, or dims no ints.
    """
    x = array("permute", "input", input)
    order = tuple(as_axis("permute", "dims", d, x.ndim) for d in as_ints("permute", "dims", dims))
    if sorted(order) != list(range(x.ndim)):
        raise ShapeError("permute", "dims", list(order), f"every axis of {list(x.shape)} once")
    back = tuple(order.index(i) for i in range(x.ndim))
    return moved("permute", x.transpose(order), input, lambda dy: permute(dy, back))


def transpose(input, dim0, dim1):
    """Two axes swapped, as torch.transpose.

    Args:
        input: Tensor or array.
        dim0, dim1: The axes.

    Returns:
        The shape with them swapped; a Tensor for a Tensor.

    Raises:
        ShapeError: An axis is out of range.
        DTypeError: input is no array, or an axis no int.
    """
    x = array("transpose", "input", input)
    order = list(range(max(x.ndim, 1)))  # no axes pass for one, as in PyTorch
    a, b = as_axis("transpose", "dim0", dim0, x.ndim), as_axis("transpose", "dim1", dim1, x.ndim)
    order[a], order[b] = order[b], order[a]
    return permute(input, order[: x.ndim])


def movedim(input, source, destination):
    """Axes moved to other places, as torch.movedim.

    Args:
        input: Tensor or array.
        source: The axis, or several.
        destination: Its new place, or theirs.

    Returns:
        The shape with them moved; a Tensor for a Tensor.

    Raises:
        ShapeError: An axis is out of range or named twice, or the numbers of axes differ.
        DTypeError: input is no array, or an axis no int.
    """
    x = array("movedim", "input", input)
    old, new = (
        tuple(as_axis("movedim", argument, d, x.ndim) for d in as_ints("movedim", argument, dims))
        for argument, dims in (("source", (source,)), ("destination", (destination,)))
    )
    if len({*old}) != len(old) or len({*new}) != len(new) or len(old) != len(new):
        raise ShapeError("movedim", "destination", list(new), f"as many axes as source {list(old)}, each once")
    order = [i for i in range(x.ndim) if i not in old]
    for place, axis in sorted(zip(new, old, strict=True)):
        order.insert(place, axis)
    return permute(input, order)


def flatten(input, start_dim=0, end_dim=-1):
    """Axes start_dim to end_dim as one, as torch.flatten.

    Args:
        input: Tensor or array.
        start_dim, end_dim: First and last axis that are joined.

    Returns:
        The shape with them joined; a Tensor for a Tensor.

    Raises:
        ShapeError: An axis is out of range, or they are in the wrong order.
        DTypeError: input is no array, or an axis no int.
    """
    x = array("flatten", "input", input)
    if x.ndim == 0:
        return reshape(input, 1)
    start, end = as_axis("flatten", "start_dim", start_dim, x.ndim), as_axis("flatten", "end_dim", end_dim, x.ndim)
    if start > end:
        raise ShapeError("flatten", "start_dim", start_dim, f"an axis up to end_dim, {end_dim}")
    # The product, not -1, which an array without elements leaves open.
    return reshape(input, *x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])


def unflatten(input, dim, sizes):
    """One axis as several, as torch.unflatten.

    Args:
        input: Tensor or array.
        dim: The axis.
        sizes: Sizes of the axes that it becomes; one may be -1.

    Returns:
        The shape with it split; a Tensor for a Tensor.

    Raises:
        ShapeError: The axis is out of range, or the sizes do not multiply to its own.
        DTypeError: input is no array.
    """
    x = array("unflatten", "input", input)
    axis = as_axis("unflatten", "dim", dim, x.ndim)
    wanted, length = as_ints("unflatten", "sizes", (sizes,)), (x.shape or (1,))[axis]
    known = math.prod(n for n in wanted if n != -1)
    if wanted.count(-1) == 1 and known and length % known == 0:
        wanted = tuple(length // known if n == -1 else n for n in wanted)
    if not wanted or math.prod(wanted) != length or min(wanted) < 0:
        raise ShapeError("unflatten", "sizes", list(wanted), f"sizes whose product is {length}")
    return reshape(input, *x.shape[:axis], *wanted, *x.shape[axis + 1 :])


def squeeze(input, dim=None):
    """Without axes of size 1, as torch.squeeze.

    Args:
        input: Tensor or array.
        dim: The axis to drop if its size is 1, a tuple of them, or None for every such axis.

    Returns:
        The shape without them; a Tensor for a Tensor.

    Raises:
        ShapeError: An axis is out of range.
        DTypeError: input is no array, or an axis no int.
    """
    x = array("squeeze", "input", input)
    given = range(x.ndim) if dim is None else dim if isinstance(dim, (tuple, list)) else (dim,)
    axes = {as_axis("squeeze", "dim", d, x.ndim) for d in given}
    return reshape(input, tuple(n for i, n in enumerate(x.shape) if n != 1 or i not in axes))


def unsqueeze(input, dim):
    """With a new axis of size 1, as torch.unsqueeze.

    Args:
        input: Tensor or array.
        dim: Where the axis shall stand.

    Returns:
        The shape with it; a Tensor for a Tensor.

    Raises:
        ShapeError: dim is out of range.
        DTypeError: input is no array, or dim no int.
    """
    x = array("unsqueeze", "input", input)
    axis = as_axis("unsqueeze", "dim", dim, x.ndim + 1)
    # An index, not a reshape: it is a view of arrays in any order.
    y = x[(slice(None),) * axis + (None,)]
    return moved("unsqueeze", y, input, lambda dy: squeeze(dy, axis))


def broadcast_to(input, *shape):
    """input repeated to a larger shape without a copy, as torch.broadcast_to.

    Args:
        input: Tensor or array.
        shape: Ints, or one sequence of them; -1 keeps the size of an axis.

    Returns:
        That shape, a read-only view; a Tensor for a Tensor.

    Raises:
        ShapeError: input does not broadcast to the shape.
        DTypeError: input is no array, or shape no ints.
    """
    x = array("broadcast_to", "input", input)
    wanted = as_ints("broadcast_to", "shape", shape)
    extra = len(wanted) - x.ndim
    wanted = tuple(x.shape[i - extra] if n == -1 and i >= extra else n for i, n in enumerate(wanted))
    ends = wanted[extra:] if extra >= 0 else ()
    if extra < 0 or any(n < 0 for n in wanted) or any(s not in (1, n) for s, n in zip(x.shape, ends, strict=True)):
        raise ShapeError("broadcast_to", "shape", list(wanted), f"a shape that {list(x.shape)} broadcasts to")
    before = x.shape
    axes = tuple(i for i in range(len(wanted)) if i < extra or (before[i - extra] == 1 and wanted[i] != 1))
    y = namespace_of(x).broadcast_to(x, wanted)
    return moved("broadcast_to", y, input, lambda dy: reshape(dy.sum(axis=axes), before) if axes else dy)


def flip(input, dims):
    """The order of elements reversed along axes, as torch.flip.

    Args:
        input: Tensor or array.
        dims: An axis or a sequence of them.

    Returns:
        The shape of input; a Tensor for a Tensor.

    Raises:
        ShapeError: An axis is out of range.
        DTypeError: input is no array, or an axis no int.
    """
    x = array("flip", "input", input)
    axes = tuple(as_axis("flip", "dims", d, x.ndim) for d in (dims if isinstance(dims, (tuple, list)) else (dims,)))
    return moved("flip", namespace_of(x).flip(x, axes), input, lambda dy: flip(dy, axes))


def contiguous(input):
    """A C-contiguous copy, or input itself if it is so, as torch.Tensor.contiguous.

    Args:
        input: Tensor or array.

    Returns:
        The same shape and values; a Tensor for a Tensor.

    Raises:
        DTypeError: input is no array.
    """
    x = array("contiguous", "input", input)
    if x.flags.c_contiguous:
        return input
    return moved("contiguous", x.copy(), input, lambda dy: dy)


def clone(input):
    """A copy that gradients flow through, as torch.clone.

    Args:
        input: Tensor or array.

    Returns:
        A copy; a Tensor for a Tensor.

    Raises:
        DTypeError: input is no array.
    """
    return moved("clone", array("clone", "input", input).copy(order="K"), input, lambda dy: dy)


def t(input):
    """A matrix transposed, or a vector as it is, as torch.t.

    Args:
        input: Tensor or array of at most 2 axes.

    Returns:
        A view; a Tensor for a Tensor.

    Raises:
        ShapeError: input has more axes.
        DTypeError: input is no array.
    """
    x = array("t", "input", input)
    if x.ndim > 2:
        raise ShapeError("t", "input", list(x.shape), "at most 2 axes")
    return permute(input, *reversed(range(x.ndim)))


def ravel(input):
    """The elements in one axis, as torch.ravel.

    Args:
        input: Tensor or array.

    Returns:
        One axis; a Tensor for a Tensor.

    Raises:
        DTypeError: input is no array.
    """
    return reshape(input, -1 if array("ravel", "input", input).size else 0)


def swapaxes(input, axis0, axis1):
    """Two axes swapped, as torch.swapaxes; the same as transpose.

    Args:
        input: Tensor or array.
        axis0, axis1: The axes.

    Returns:
        The shape with them swapped; a Tensor for a Tensor.

    Raises:
        ShapeError: An axis is out of range.
        DTypeError: input is no array, or an axis no int.
    """
    return transpose(input, axis0, axis1)
