"""Padding and cropping of arrays, and the gradients of that.

Along each axis the output positions before the input, on it and after it are three ranges, and within a range the
input position rises with the output position, falls or stays the same. So each range is a slice of the output and one
of the input, and no array of positions is needed. Negative padding cuts ranges short. Forward writes every output
element once; the gradient adds up the same slices, in the same order at every run.
"""

import itertools
import math

import numpy

from fastconv.arrays import describe, namespace_of
from fastconv.autograd import raw
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.operands import accumulator, array, as_int, is_number, number
from fastconv.functional.shape import moved

MODES = ("constant", "reflect", "replicate", "circular")
_LARGEST = {"float16": 65504.0, "bfloat16": (2 - 2.0**-7) * 2.0**127, "float32": float(numpy.finfo("float32").max)}


def pad(input, pad, mode="constant", value=None):
    """input with elements added around it or cut off, as torch.nn.functional.pad.

    Args:
        input: Tensor or array of any shape; in the other modes than "constant" [N, C, *size] or [C, *size] with one to
            three spatial axes, all of which are padded.
        pad: Two ints an axis, how many to add before and after it, from the last axis backwards: (left, right, top,
            bottom, front, back). Negative ones cut off.
        mode: What is added: "constant", a number; "reflect", the mirrored input without its edge; "replicate", its
            edge; "circular", its other end, taken from what negative numbers have left of it.
        value: The number for "constant"; None is 0.

    Returns:
        The padded shape; dtype, device and memory format of input; a Tensor for a Tensor.

    Raises:
        ShapeError: pad is not two numbers for each of the last axes, cuts off more than there is or adds more than the
            mode can; there is no such mode, or it takes no value; or the dtype cannot hold value.
        DTypeError: input is no array, or of bools in the modes "reflect" and "replicate", or another argument is of
            the wrong type.
    """
    x = array("pad", "input", input)
    if not isinstance(mode, str):
        raise DTypeError("pad", "mode", describe(mode), " or ".join(map(repr, MODES)))
    if mode not in MODES:
        raise ShapeError("pad", "mode", repr(mode), " or ".join(map(repr, MODES)))
    if value is not None and not is_number(value):
        raise DTypeError("pad", "value", describe(raw(value)), "a number or None")
    pairs = _pairs(x, pad)
    if mode == "constant":
        value = _in_range(x.dtype, 0 if value is None else number(value)) if max(map(max, pairs), default=0) > 0 else 0
    elif value:
        raise ShapeError("pad", "value", value, f"None in the mode {mode!r}")
    else:
        _check_images(x, len(pad) // 2, mode)
    for axis, (size, pair) in enumerate(zip(x.shape, pairs, strict=True)):
        _check_axis(mode, axis, size, *pair)
    output = tuple(size + sum(pair) for size, pair in zip(x.shape, pairs, strict=True))
    if mode in ("reflect", "replicate") and (min(output) < 0 or max(output[-(len(pad) // 2) :]) < 1):
        raise ShapeError("pad", "pad", list(pad), f"at least one position left of {list(x.shape)}")
    ranges = tuple(_ranges(mode, size, *pair) for size, pair in zip(x.shape, pairs, strict=True))
    return _pad(input, output, ranges, value)


def _pairs(x, pad):
    """(before, after) for each axis of x, from the first one on."""
    if not isinstance(pad, (tuple, list)) or (pad and isinstance(pad[0], bool)):
        raise DTypeError("pad", "pad", describe(raw(pad)), "a tuple of ints")
    numbers = [as_int("pad", "pad", n) for n in pad]
    if len(numbers) % 2 or len(numbers) > 2 * x.ndim:
        raise ShapeError("pad", "pad", numbers, f"two numbers an axis, the last one first, for up to {x.ndim} axes")
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return ((0, 0),) * (x.ndim - len(numbers) // 2) + tuple(pairs)[::-1]


def _in_range(dtype, value):
    """value as a number of this dtype, refused where PyTorch would have to cut it."""
    if dtype.kind == "b":
        return bool(value)  # NaN is True
    if dtype.kind in "iu":
        least, most = (int(n) for n in (numpy.iinfo(dtype).min, numpy.iinfo(dtype).max))
        if least <= value <= most:  # never for NaN
            return int(value)
    else:
        least, most = -_LARGEST.get(dtype.name, math.inf), _LARGEST.get(dtype.name, math.inf)
        if math.isnan(value) or math.isinf(value) or least <= value <= most:
            return value
    raise ShapeError("pad", "value", value, f"{least} to {most}, as {dtype.name} holds")


def _check_images(x, rank, mode):
    """Refuse what only numbers can pad."""
    if not 1 <= rank <= 3 or x.ndim not in (rank + 1, rank + 2):
        raise ShapeError(
            "pad", "pad", f"{2 * rank} numbers for {list(x.shape)}",
            f"two for each spatial axis of [N, C, *size] or [C, *size] in the mode {mode!r}",
        )  # fmt: skip
    if mode == "circular":
        return
    if x.dtype.kind == "b":
        raise DTypeError("pad", "input", "bool", f"numbers in the mode {mode!r}")
    if 0 in x.shape[x.ndim - rank - 1 :]:
        raise ShapeError("pad", "input", list(x.shape), f"at least one channel and position in the mode {mode!r}")


def _check_axis(mode, axis, size, before, after):
    """Refuse to cut off more than there is, or to add more than the mode can."""
    kept = size + min(before, 0) + min(after, 0)
    most = {"reflect": size - 1, "circular": kept}.get(mode, math.inf)
    if max(before, after) > max(most, 0):
        raise ShapeError("pad", "pad", (before, after), f"at most {most} on axis {axis} in the mode {mode!r}")
    if mode in ("constant", "circular") and kept < 0:
        raise ShapeError("pad", "pad", (before, after), f"at most the {size} positions of axis {axis} cut off")


def _ranges(mode, size, before, after):
    """(slice of the output, slice of the input) of each range of an axis that is not empty; the input's own first."""
    output = size + before + after
    first, last = (max(before, 0), output - max(after, 0)) if mode == "circular" else (before, before + size)
    # For each side the input position of output position 0, and how it changes from one output position to the next.
    sides = {
        "reflect": ((before, -1), (2 * (size - 1) + before, -1)),
        "replicate": ((0, 0), (size - 1, 0)),
        "circular": ((last - first - before, 1), (first - last - before, 1)),
    }.get(mode, ())
    found = []
    for bounds, (start, step) in zip(((first, last), (0, first), (last, output)), ((-before, 1), *sides), strict=False):
        begin, end = max(bounds[0], 0), min(bounds[1], output)
        if begin < end:
            found.append((slice(begin, end), _input_slice(start + step * begin, end - begin, step)))
    return tuple(found)


def _input_slice(start, count, step):
    """The positions start, start + step and so on; a single one for step 0, which stands for all."""
    if step == 0:
        return slice(start, start + 1, 1)
    end = start + count * step
    return slice(start, end if end >= 0 else None, step)


def _regions(ranges):
    """(index of the output, index of the input) of every block of the array, where blocks are ranges of every axis."""
    for block in itertools.product(*ranges):  # with ... an index gives an array where there is no axis too
        yield (*(o for o, _ in block), ...), (*(i for _, i in block), ...)


def _is_whole(output, input, size):
    """Whether a range is all of the input, each position once."""
    return input == slice(0, size, 1) and output.stop - output.start == size


def _pad(x, output, ranges, value=None):
    """y [*output]: the input's elements, and value in what no range covers, if that may be anything."""
    plain = raw(x)
    y = _blank(plain, output, plain.dtype, value)
    for target, source in _regions(ranges):
        y[target] = plain[source]
    size = plain.shape
    return moved("pad", y, x, lambda dy: _pad_input_grad(dy, size, ranges, value))


def _pad_input_grad(dy, size, ranges, value):
    """dx [*size]: the transpose of _pad."""
    d = raw(dy)
    wide, regions = accumulator(d.dtype), list(_regions(ranges))
    if all(axis and _is_whole(*axis[0], n) for axis, n in zip(ranges, size, strict=True)):
        dx = d[regions.pop(0)[0]].astype(wide)
    else:
        dx = _blank(d, size, wide, 0)
    for source, target in regions:
        part, into = d[source].astype(wide, copy=False), dx[target]
        repeated = tuple(i for i in range(d.ndim) if part.shape[i] != into.shape[i])
        into += part.sum(axis=repeated, keepdims=True) if repeated else part
    dx = dx.astype(d.dtype.newbyteorder("="), copy=False)
    output, outside = d.shape, None if value is None else 0
    return moved("pad", dx, dy, lambda ddx: _pad(ddx, output, ranges, outside))


def _blank(like, shape, dtype, value):
    """An array in the memory format of like: full of a value, or unwritten for None."""
    xp, dtype = namespace_of(like), dtype.newbyteorder("=")
    last = like.ndim > 2 and not like.flags.c_contiguous and xp.moveaxis(like, 1, -1).flags.c_contiguous
    memory = (shape[0], *shape[2:], shape[1]) if last else shape
    if value is None:
        y = xp.empty(memory, dtype)
    elif value == 0 and math.copysign(1, value) > 0:  # which systems give without writing it
        y = xp.zeros(memory, dtype)
    else:
        y = xp.full(memory, value, dtype)
    return xp.moveaxis(y, -1, 1) if last else y
