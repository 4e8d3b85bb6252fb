"""Reshaping, reordering, indexing and joining, and their gradients.

A result is a view of its input where NumPy or CuPy give one.
"""

import math
import operator as _operator

import numpy

from fastconv import backend
from fastconv.arrays import describe, is_array, namespace_of
from fastconv.autograd import Tensor, is_float, raw, record
from fastconv.errors import DTypeError, ShapeError


def _array(operator, value, argument="input"):
    array = raw(value)
    if not is_array(array):
        raise DTypeError(operator, argument, describe(array), "a Tensor or array")
    return array


def _axis(operator, ndim, dim, argument="dim"):
    """dim as an axis from 0."""
    try:
        axis = _operator.index(dim)
    except TypeError:
        raise DTypeError(operator, argument, describe(dim), "an int") from None
    if not -ndim <= axis < ndim:
        raise ShapeError(operator, argument, axis, f"an axis of an array with {ndim}")
    return axis % ndim


def _ints(operator, argument, values):
    """Ints given one by one or as one sequence, as a tuple."""
    values = values[0] if len(values) == 1 and isinstance(values[0], (tuple, list)) else values
    try:
        return tuple(_operator.index(v) for v in values)
    except TypeError:
        raise DTypeError(operator, argument, list(values), "ints") from None


def _moved(name, y, input, back):
    """Record an operator that moves elements; `back(dy)` moves a gradient to where they came from."""
    if not is_float(y):
        return Tensor(y) if isinstance(input, Tensor) else y
    return record(name, y, (input,), lambda dy, _: (lambda: back(dy),))


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
    x = _array("reshape", input)
    wanted = _ints("reshape", "shape", shape)
    known = math.prod(n for n in wanted if n != -1)
    fits = x.size == known if -1 not in wanted else known != 0 and x.size % known == 0
    if not fits or wanted.count(-1) > 1 or any(n < -1 for n in wanted):
        raise ShapeError("reshape", "shape", list(wanted), f"a shape of the {x.size} elements of {list(x.shape)}")
    before = x.shape
    return _moved("reshape", x.reshape(wanted), input, lambda dy: reshape(dy, before))


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
    x = _array("permute", input)
    order = tuple(_axis("permute", x.ndim, d, "dims") for d in _ints("permute", "dims", dims))
    if sorted(order) != list(range(x.ndim)):
        raise ShapeError("permute", "dims", list(order), f"every axis of {list(x.shape)} once")
    back = tuple(int(i) for i in numpy.argsort(order))
    return _moved("permute", x.transpose(order), input, lambda dy: permute(dy, back))


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
    x = _array("transpose", input)
    order = list(range(x.ndim))
    a, b = _axis("transpose", x.ndim, dim0, "dim0"), _axis("transpose", x.ndim, dim1, "dim1")
    order[a], order[b] = order[b], order[a]
    return permute(input, order)


def movedim(input, source, destination):
    """One axis moved to another place, as torch.movedim.

    Args:
        input: Tensor or array.
        source: The axis.
        destination: Its new place.

    Returns:
        The shape with it moved; a Tensor for a Tensor.

    Raises:
        ShapeError: An axis is out of range.
        DTypeError: input is no array, or an axis no int.
    """
    x = _array("movedim", input)
    axis = _axis("movedim", x.ndim, source, "source")
    order = [i for i in range(x.ndim) if i != axis]
    order.insert(_axis("movedim", x.ndim, destination, "destination"), axis)
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
    x = _array("flatten", input)
    if x.ndim == 0:
        return reshape(input, 1)
    start, end = _axis("flatten", x.ndim, start_dim, "start_dim"), _axis("flatten", x.ndim, end_dim, "end_dim")
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
    x = _array("unflatten", input)
    axis = _axis("unflatten", x.ndim, dim)
    sizes = _ints("unflatten", "sizes", (sizes,))
    known = math.prod(n for n in sizes if n != -1)
    if sizes.count(-1) == 1 and known and x.shape[axis] % known == 0:
        sizes = tuple(x.shape[axis] // known if n == -1 else n for n in sizes)
    if math.prod(sizes) != x.shape[axis] or any(n < 0 for n in sizes):
        raise ShapeError("unflatten", "sizes", list(sizes), f"sizes whose product is {x.shape[axis]}")
    return reshape(input, *x.shape[:axis], *sizes, *x.shape[axis + 1 :])


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
    x = _array("squeeze", input)
    given = range(x.ndim) if dim is None else dim if isinstance(dim, (tuple, list)) else (dim,)
    axes = {_axis("squeeze", x.ndim, d) for d in given}
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
    x = _array("unsqueeze", input)
    axis = _axis("unsqueeze", x.ndim + 1, dim)
    # An index, not a reshape: it is a view of arrays in any order.
    y = x[(slice(None),) * axis + (None,)]
    return _moved("unsqueeze", y, input, lambda dy: squeeze(dy, axis))


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
    x = _array("broadcast_to", input)
    wanted = _ints("broadcast_to", "shape", shape)
    extra = len(wanted) - x.ndim
    wanted = tuple(x.shape[i - extra] if n == -1 and i >= extra else n for i, n in enumerate(wanted))
    ends = wanted[extra:] if extra >= 0 else ()
    if extra < 0 or any(n < 0 for n in wanted) or any(s not in (1, n) for s, n in zip(x.shape, ends, strict=True)):
        raise ShapeError("broadcast_to", "shape", list(wanted), f"a shape that {list(x.shape)} broadcasts to")
    before = x.shape
    axes = tuple(i for i in range(len(wanted)) if i < extra or (before[i - extra] == 1 and wanted[i] != 1))
    y = namespace_of(x).broadcast_to(x, wanted)
    return _moved("broadcast_to", y, input, lambda dy: reshape(dy.sum(axis=axes), before) if axes else dy)


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
    x = _array("flip", input)
    axes = tuple(_axis("flip", x.ndim, d, "dims") for d in (dims if isinstance(dims, (tuple, list)) else (dims,)))
    return _moved("flip", namespace_of(x).flip(x, axes), input, lambda dy: flip(dy, axes))


def contiguous(input):
    """A C-contiguous copy, or input itself if it is so, as torch.Tensor.contiguous.

    Args:
        input: Tensor or array.

    Returns:
        The same shape and values; a Tensor for a Tensor.

    Raises:
        DTypeError: input is no array.
    """
    x = _array("contiguous", input)
    if x.flags.c_contiguous:
        return input
    return _moved("contiguous", namespace_of(x).ascontiguousarray(x), input, lambda dy: dy)


def clone(input):
    """A copy that gradients flow through, as torch.clone.

    Args:
        input: Tensor or array.

    Returns:
        A copy; a Tensor for a Tensor.

    Raises:
        DTypeError: input is no array.
    """
    return _moved("clone", _array("clone", input).copy(order="K"), input, lambda dy: dy)


def getitem(input, index):
    """input[index] with every index that NumPy knows; Tensors of integers or bools may be indices.

    Args:
        input: Tensor or array.
        index: Ints, slices, None, Ellipsis, arrays or Tensors of ints or bools, or a tuple of these.

    Returns:
        What NumPy gives; a Tensor for a Tensor. The gradient adds up where an element was taken twice.

    Raises:
        ShapeError: The index is out of range or has too many parts.
        DTypeError: input is no array, or the index is of a type that indexes nothing.
    """
    x = _array("getitem", input)
    plain = tuple(raw(i) for i in index) if isinstance(index, tuple) else raw(index)
    try:
        y = namespace_of(x).asarray(x[plain])
    except IndexError as refused:
        text = str(refused)
        kind = DTypeError if "only integers" in text or "must be of integer" in text else ShapeError
        raise kind("getitem", "index", text, f"an index of an array {list(x.shape)}") from None
    except (TypeError, ValueError) as refused:
        raise DTypeError("getitem", "index", str(refused), "ints, slices, None, Ellipsis or arrays") from None
    shape = x.shape
    return _moved("getitem", y, input, lambda dy: _scatter(dy, plain, shape))


def _scatter(dy, index, shape):
    """An array of zeros with dy added at index."""
    d = raw(dy)
    xp = namespace_of(d)
    dx = xp.zeros(shape, d.dtype)
    parts = index if isinstance(index, tuple) else (index,)
    if any(isinstance(p, (list, tuple)) or is_array(p) for p in parts):
        xp.add.at(dx, index, d)  # in order, so that equal indices add up the same way each time
    else:
        dx[index] = d
    return record("getitem", dx, (dy,), lambda ddx, _: (lambda: getitem(ddx, index),))


def cat(tensors, dim=0):
    """Arrays joined along an axis, as torch.cat.

    Args:
        tensors: A sequence of Tensors or arrays, equal in dtype and in every other axis.
        dim: The axis.

    Returns:
        The joined shape; a Tensor if any is one.

    Raises:
        ShapeError: The sequence is empty, or shapes disagree.
        DTypeError: One is no array, or dtypes differ.
        DeviceError: The arrays live on different devices.
    """
    arrays = _sequence("cat", tensors)
    axis = _axis("cat", arrays[0].ndim, dim)
    for a in arrays:
        if a.ndim != arrays[0].ndim or any(
            i != axis and m != n for i, (m, n) in enumerate(zip(a.shape, arrays[0].shape, strict=True))
        ):
            shapes = f"{list(arrays[0].shape)} and {list(a.shape)}"
            raise ShapeError("cat", "tensors", shapes, f"shapes that differ along axis {axis} alone")
    y = backend.namespace(*arrays).concatenate(arrays, axis=axis)
    ends = numpy.cumsum([a.shape[axis] for a in arrays]).tolist()

    def rule(dy, _):
        return tuple(
            lambda first=first, last=last: getitem(dy, (slice(None),) * axis + (slice(first, last),))
            for first, last in zip([0, *ends], ends, strict=False)
        )

    return record("cat", y, tuple(tensors), rule)


def stack(tensors, dim=0):
    """Arrays of one shape joined along a new axis, as torch.stack.

    Args:
        tensors: A sequence of Tensors or arrays, equal in shape and dtype.
        dim: Where the new axis shall stand.

    Returns:
        The shape with the new axis; a Tensor if any is one.

    Raises:
        ShapeError: The sequence is empty, or shapes differ.
        DTypeError: One is no array, or dtypes differ.
        DeviceError: The arrays live on different devices.
    """
    arrays = _sequence("stack", tensors)
    for a in arrays:
        if a.shape != arrays[0].shape:
            raise ShapeError("stack", "tensors", f"{list(arrays[0].shape)} and {list(a.shape)}", "one shape")
    return cat([unsqueeze(t, dim) for t in tensors], dim if dim >= 0 else dim + arrays[0].ndim + 1)


def split(tensor, split_size_or_sections, dim=0):
    """Consecutive parts along an axis, as torch.split.

    Args:
        tensor: Tensor or array.
        split_size_or_sections: Size of each part, the last one may be smaller; or the sizes of all parts.
        dim: The axis.

    Returns:
        A tuple of parts; Tensors for a Tensor.

    Raises:
        ShapeError: The axis is out of range, or the sizes do not add up to its own.
        DTypeError: tensor is no array, or a size no int.
    """
    x = _array("split", tensor, "tensor")
    axis = _axis("split", x.ndim, dim)
    length = x.shape[axis]
    if isinstance(split_size_or_sections, (tuple, list)):
        sizes = _ints("split", "split_size_or_sections", (split_size_or_sections,))
    else:
        (size,) = _ints("split", "split_size_or_sections", (split_size_or_sections,))
        if size < 1:
            raise ShapeError("split", "split_size_or_sections", size, "at least 1")
        sizes = tuple(min(size, length - start) for start in range(0, max(length, 1), size))
    if sum(sizes) != length or any(n < 0 for n in sizes):
        raise ShapeError("split", "split_size_or_sections", list(sizes), f"sizes that add up to {length}")
    ends = numpy.cumsum(sizes).tolist()
    lead = (slice(None),) * axis
    return tuple(getitem(tensor, (*lead, slice(end - n, end))) for end, n in zip(ends, sizes, strict=True))


def chunk(input, chunks, dim=0):
    """At most so many parts of about equal size, as torch.chunk.

    Args:
        input: Tensor or array.
        chunks: How many, at least 1.
        dim: The axis.

    Returns:
        A tuple of parts; Tensors for a Tensor.

    Raises:
        ShapeError: The axis is out of range, or chunks below 1.
        DTypeError: input is no array, or chunks no int.
    """
    x = _array("chunk", input)
    (count,) = _ints("chunk", "chunks", (chunks,))
    if count < 1:
        raise ShapeError("chunk", "chunks", count, "at least 1")
    length = x.shape[_axis("chunk", x.ndim, dim)]
    return split(input, max(1, -(-length // count)), dim)


def _sequence(operator, tensors):
    """The plain arrays of a sequence of Tensors or arrays of one dtype."""
    if not isinstance(tensors, (tuple, list)):
        raise DTypeError(operator, "tensors", describe(raw(tensors)), "a sequence of Tensors or arrays")
    if not tensors:
        raise ShapeError(operator, "tensors", "an empty sequence", "at least one")
    arrays = [_array(operator, t, "tensors") for t in tensors]
    backend.of(*arrays)
    for a in arrays:
        if a.dtype != arrays[0].dtype:
            raise DTypeError(operator, "tensors", f"{arrays[0].dtype.name} and {a.dtype.name}", "one dtype")
    return arrays
