"""Elements chosen by position, by a mask or by their order, and the gradients of that."""

from typing import NamedTuple

from fastconv import backend
from fastconv.arrays import is_array, is_cupy, is_float
from fastconv.autograd import raw
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.elementwise import cast, where
from fastconv.functional.indexing import getitem, pick
from fastconv.functional.operands import accumulator, array, as_axis, as_int, as_ints, is_number, number, wrapped
from fastconv.functional.shape import broadcast_to, moved, reshape

_OUT_OF_RANGE = "On a GPU, where nobody waits for the answer, what is out of range wraps around."


class Ordered(NamedTuple):
    """What sort and topk give."""

    values: object
    indices: object


def _positions(operator, argument, index, length, behind=0):
    """The plain array of indices of an axis, int64; checked on the CPU. So many negative ones are taken as well."""
    i = array(operator, argument, index)
    if i.dtype.kind not in "iu":
        raise DTypeError(operator, argument, i.dtype.name, "integers")
    if not is_cupy(i):
        wrong = i[(i < -behind) | (i >= length)]
        if wrong.size:
            raise ShapeError(operator, argument, int(wrong[0]), f"{-behind} to {length - 1}")
    return i.astype("int64")


def gather(input, dim, index, *, sparse_grad=False):
    """Elements along an axis at an index for each: y[i, j] = input[index[i, j], j] for dim = 0, as torch.gather.

    Args:
        input: Tensor or array.
        dim: The axis.
        index: Integers, as many axes as input and along all but dim no longer. {out_of_range}
        sparse_grad: Accepted and without effect: gradients are dense.

    Returns:
        The shape of index, dtype of input; a Tensor for a Tensor. The gradient adds up where an element was taken
        twice.

    Raises:
        ShapeError: There is no such axis, index has another number of axes or is too long, or on the CPU out of range.
        DTypeError: input is no array, or index none of integers.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """
    x = array("gather", "input", input)
    axis = as_axis("gather", "dim", dim, x.ndim)
    i = _positions("gather", "index", index, (x.shape or (1,))[axis])
    backend.of(x, i)
    if i.size == 0 and x.ndim != i.ndim:  # which PyTorch takes whatever its shape
        return reshape(getitem(reshape(input, -1), (i.reshape(-1),)), i.shape)
    if max(i.ndim, 1) != max(x.ndim, 1):
        raise ShapeError("gather", "index", list(i.shape), f"as many axes as input {list(x.shape)}")
    if any(n > m for k, (n, m) in enumerate(zip(i.shape, x.shape, strict=False)) if k != axis):
        raise ShapeError("gather", "index", list(i.shape), f"no more than {list(x.shape)} along axes other than {axis}")
    if x.ndim == 0:
        return broadcast_to(reshape(input, *(1,) * i.ndim), i.shape)
    if i.ndim == 0:
        return reshape(getitem(input, (i.reshape(1),)), ())
    return getitem(input, _grid(x, axis, i))


def _grid(x, axis, i):
    """Indices of all axes that meet at the positions of i."""
    xp = backend.namespace(x)
    return tuple(
        i if k == axis else xp.arange(n).reshape([-1 if j == k else 1 for j in range(i.ndim)])
        for k, n in enumerate(i.shape)
    )


def take_along_dim(input, indices, dim=None):
    """Elements along an axis at indices that broadcast, as torch.take_along_dim.

    Args:
        input: Tensor or array.
        indices: Integers that broadcast with input along all axes but dim, negative ones counted from the end.
            {out_of_range}
        dim: The axis; None for the flattened input and indices.

    Returns:
        The shape that both broadcast to, that of indices along dim; a Tensor for a Tensor.

    Raises:
        ShapeError: There is no such axis, the shapes do not broadcast, or on the CPU an index is out of range.
        DTypeError: input is no array, or indices none of integers.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """
    x, i = array("take_along_dim", "input", input), array("take_along_dim", "indices", indices)
    if dim is None:
        return take_along_dim(reshape(input, -1), reshape(indices, -1), 0)
    axis = as_axis("take_along_dim", "dim", dim, x.ndim)
    if x.ndim != i.ndim or x.ndim == 0:
        raise ShapeError("take_along_dim", "indices", list(i.shape), f"as many axes as input {list(x.shape)}")
    pairs = list(zip(x.shape, i.shape, strict=True))
    if any(n != m and 1 not in (n, m) for k, (n, m) in enumerate(pairs) if k != axis):
        raise ShapeError("take_along_dim", "indices", list(i.shape), f"a shape that broadcasts with {list(x.shape)}")
    i = _positions("take_along_dim", "indices", indices, x.shape[axis], x.shape[axis])
    i = backend.namespace(i).where(i < 0, i + x.shape[axis], i)
    both = [m if n == 1 else n for n, m in pairs]
    wide = broadcast_to(input, *both[:axis], x.shape[axis], *both[axis + 1 :])
    return gather(wide, axis, broadcast_to(i, *both[:axis], i.shape[axis], *both[axis + 1 :]))


def index_select(input, dim, index):
    """Slices along an axis at indices, as torch.index_select.

    Args:
        input: Tensor or array.
        dim: The axis.
        index: Integers, [L] or no axes. {out_of_range}

    Returns:
        The shape of input with L along the axis; a Tensor for a Tensor.

    Raises:
        ShapeError: There is no such axis, index has more axes, or on the CPU one is out of range.
        DTypeError: input is no array, or index none of integers.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """
    x = array("index_select", "input", input)
    axis = as_axis("index_select", "dim", dim, x.ndim)
    i = _positions("index_select", "index", index, (x.shape or (1,))[axis])
    if i.ndim > 1 or (x.ndim == 0 and i.size != 1):
        raise ShapeError("index_select", "index", list(i.shape), "[L] or no axes")
    backend.of(x, i)
    return input if x.ndim == 0 else getitem(input, (slice(None),) * axis + (i.reshape(-1),))


def masked_fill(input, mask, value):
    """value where mask holds and input elsewhere, as torch.Tensor.masked_fill.

    Args:
        input: Tensor or array.
        mask: Bools that broadcast with input.
        value: A number, or a Tensor or array without axes.

    Returns:
        The shape that input and mask broadcast to, dtype of input; a Tensor if an argument is one.

    Raises:
        ShapeError: The shapes do not broadcast, or value has axes.
        DTypeError: mask is no array of bools, or value none of what the dtype of input holds.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """
    x, m = array("masked_fill", "input", input), array("masked_fill", "mask", mask)
    if m.dtype.kind != "b":
        raise DTypeError("masked_fill", "mask", m.dtype.name, "bool")
    dtype = x.dtype.newbyteorder("=")
    if not is_number(value):
        v = array("masked_fill", "value", value)
        if v.ndim:
            raise ShapeError("masked_fill", "value", list(v.shape), "a number, or an array without axes")
        if is_float(v) and not is_float(x):
            raise DTypeError("masked_fill", "value", v.dtype.name, f"what {dtype.name} holds")
        value = cast(value, dtype)
    elif not is_float(x) and x.dtype.kind != "b" and number(value) != int(number(value)):
        raise DTypeError("masked_fill", "value", value, f"what {dtype.name} holds")
    return cast(where(mask, value, input), dtype)


def narrow(input, dim, start, length):
    """Part of an axis, as torch.narrow.

    Args:
        input: Tensor or array.
        dim: The axis.
        start: Where the part begins, negative ones counted from the end; an int, or an array of one without axes.
        length: How long it is.

    Returns:
        A view of that length along the axis; a Tensor for a Tensor.

    Raises:
        ShapeError: There is no such axis, or no such part of it.
        DTypeError: input is no array, or another argument no int.
    """
    x = array("narrow", "input", input)
    if x.ndim == 0:
        raise ShapeError("narrow", "input", "an array without axes", "at least one axis")
    if is_array(raw(start)) and (raw(start).ndim or raw(start).dtype.kind not in "iu"):
        raise ShapeError("narrow", "start", f"{raw(start).dtype.name} {list(raw(start).shape)}", "an int without axes")
    axis = as_axis("narrow", "dim", dim, x.ndim)
    first, count, size = as_int("narrow", "start", start), as_int("narrow", "length", length), x.shape[axis]
    if not -size <= first <= size:
        raise ShapeError("narrow", "start", first, f"{-size} to {size}")
    first += size if first < 0 else 0
    if not 0 <= count <= size - first:
        raise ShapeError("narrow", "length", count, f"0 to {size - first} from {first} on of {size}")
    return getitem(input, (slice(None),) * axis + (slice(first, first + count),))


def select(input, dim, index):
    """One slice along an axis, without that axis, as torch.select.

    Args:
        input: Tensor or array.
        dim: The axis.
        index: Which slice, negative ones counted from the end.

    Returns:
        A view without the axis; a Tensor for a Tensor.

    Raises:
        ShapeError: There is no such axis or slice.
        DTypeError: input is no array, or another argument no int.
    """
    x = array("select", "input", input)
    if x.ndim == 0:
        raise ShapeError("select", "input", "an array without axes", "at least one axis")
    axis, place = as_axis("select", "dim", dim, x.ndim), as_int("select", "index", index)
    if not -x.shape[axis] <= place < x.shape[axis]:
        raise ShapeError("select", "index", place, f"{-x.shape[axis]} to {x.shape[axis] - 1}")
    return getitem(input, (slice(None),) * axis + (place,))


def unbind(input, dim=0):
    """Every slice along an axis, as torch.unbind.

    Args:
        input: Tensor or array.
        dim: The axis.

    Returns:
        A tuple of views without the axis; Tensors for a Tensor.

    Raises:
        ShapeError: There is no such axis.
        DTypeError: input is no array, or dim no int.
    """
    x = array("unbind", "input", input)
    if x.ndim == 0:
        raise ShapeError("unbind", "input", "an array without axes", "at least one axis")
    axis = as_axis("unbind", "dim", dim, x.ndim)
    return tuple(select(input, axis, i) for i in range(x.shape[axis]))


def roll(input, shifts, dims=None):
    """Elements moved along axes, what leaves one end entering at the other, as torch.roll.

    Args:
        input: Tensor or array.
        shifts: By how many places; an int or a sequence of them.
        dims: The axis of each shift; None for one shift of the flattened elements.

    Returns:
        The shape of input; a Tensor for a Tensor.

    Raises:
        ShapeError: There is no such axis, or the numbers of shifts and axes differ.
        DTypeError: input is no array, or another argument no int.
    """
    x = array("roll", "input", input)
    steps = as_ints("roll", "shifts", (shifts,))
    if dims is None or (isinstance(dims, (tuple, list)) and not dims):
        if len(steps) != 1:
            raise ShapeError("roll", "shifts", list(steps), "one shift without dims")
        return reshape(roll(reshape(input, -1), steps, 0), x.shape)
    axes = tuple(as_axis("roll", "dims", d, x.ndim) for d in as_ints("roll", "dims", (dims,)))
    if len(axes) != len(steps):
        raise ShapeError("roll", "shifts", list(steps), f"as many as dims {list(axes)}")
    if x.ndim == 0:
        raise ShapeError("roll", "dims", list(axes), "none for an array without axes")
    y = backend.namespace(x).roll(x, steps, axes)
    back = tuple(-step for step in steps)
    return moved("roll", y, input, lambda dy: roll(dy, back, axes))


def argsort(input, dim=-1, descending=False, *, stable=False):
    """Where elements in order along an axis are, as torch.argsort.

    Args:
        input: Tensor or array.
        dim: The axis.
        descending: Whether the largest comes first; NaN counts as the largest.
        stable: Accepted and without effect: equals always stay in their order.

    Returns:
        int64, the shape of input; a Tensor for a Tensor.

    Raises:
        ShapeError: There is no such axis.
        DTypeError: input is no array, or dim no int.
    """
    return sort(input, dim, descending).indices


def sort(input, dim=-1, descending=False, *, stable=False):
    """Elements in order along an axis, and where they were, as torch.sort.

    Args:
        input: Tensor or array.
        dim: The axis.
        descending: Whether the largest comes first; NaN counts as the largest.
        stable: Accepted and without effect: equals always stay in their order.

    Returns:
        A named tuple (values, indices) of the shape of input, indices int64; Tensors for a Tensor.

    Raises:
        ShapeError: There is no such axis.
        DTypeError: input is no array, or dim no int.
    """
    x = array("sort", "input", input)
    axis = as_axis("sort", "dim", dim, x.ndim)
    xp = backend.namespace(x)
    if x.ndim == 0:
        return Ordered(reshape(input, ()), wrapped(xp.zeros((), "int64"), input))
    wide = x.astype(accumulator(x.dtype)) if is_float(x) else x
    if descending:
        indices = xp.flip(x.shape[axis] - 1 - _order(xp, xp.flip(wide, axis), axis), axis).astype("int64")
    else:
        indices = _order(xp, wide, axis).astype("int64")
    return Ordered(pick(input, indices, axis), wrapped(indices, input))


def _order(xp, x, axis):
    """Where the elements in order are, equals in their order, NaN last."""
    return xp.argsort(x, axis=axis) if is_cupy(x) else xp.argsort(x, axis=axis, kind="stable")  # CuPy's always is


def topk(input, k, dim=-1, largest=True, sorted=True):
    """The k largest elements along an axis, and where they were, as torch.topk.

    Args:
        input: Tensor or array.
        k: How many.
        dim: The axis.
        largest: False for the smallest; NaN counts as the largest.
        sorted: Accepted and without effect: they always come in order.

    Returns:
        A named tuple (values, indices), indices int64, of equals the first; Tensors for a Tensor.

    Raises:
        ShapeError: There is no such axis, or not so many elements along it.
        DTypeError: input is no array, or another argument no int.
    """
    x = array("topk", "input", input)
    if x.dtype.kind == "b":
        raise DTypeError("topk", "input", "bool", "numbers", "convert it first")
    axis, count = as_axis("topk", "dim", dim, x.ndim), as_int("topk", "k", k)
    length = (x.shape or (1,))[axis]
    if not 0 <= count <= length:
        raise ShapeError("topk", "k", count, f"0 to {length}")
    found = sort(input, dim, largest)
    if x.ndim == 0:
        return found
    return Ordered(*(narrow(v, axis, 0, count) for v in found))


for _function in (gather, take_along_dim, index_select):
    _function.__doc__ = _function.__doc__.format(out_of_range=_OUT_OF_RANGE)
