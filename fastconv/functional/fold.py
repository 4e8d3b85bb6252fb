"""Sliding blocks of images as columns of a matrix, and back: im2col and col2im.

An element of an image is in several blocks, once for each tap of the kernel that can lie on it. Taking the blocks apart
and adding them up are each other's transpose, and each a copy or a sum of one slice a tap, in the order of the taps.
"""

import itertools
from typing import NamedTuple

from fastconv.arrays import check_float, is_float, namespace_of
from fastconv.autograd import raw
from fastconv.errors import ShapeError
from fastconv.functional.operands import accumulator, array
from fastconv.functional.shape import moved
from fastconv.window import per_axis


class _Blocks(NamedTuple):
    """Where the blocks of an image lie; every field has a value for each of the two axes.

    Attributes:
        size: Positions of the image.
        kernel: Positions of a block.
        dilation: Image positions from one position of a block to the next.
        padding: Zeros on each side of the image.
        stride: Image positions from one block to the next.
        count: Blocks along the axis.
    """

    size: tuple
    kernel: tuple
    dilation: tuple
    padding: tuple
    stride: tuple
    count: tuple

    def tile(self):
        """Whether the blocks are the image cut into pieces, as for patches of a transformer: nothing is added up."""
        cut = tuple(n * k for n, k in zip(self.count, self.kernel, strict=True))
        return cut == self.size and self.kernel == self.stride and self.dilation == (1, 1) and self.padding == (0, 0)

    def taps(self):
        """(index of [..., R, S, P, Q], index of [..., H, W]) of each tap that meets the image in a block."""
        rows, columns = (list(self._slices(axis)) for axis in (0, 1))
        for (r, p, height), (s, q, width) in itertools.product(rows, columns):
            yield (..., r, s, p, q), (..., height, width)

    def _slices(self, axis):
        """(tap, slice of the blocks in which it is inside the image, slice of the image) of an axis."""
        size, stride, count = self.size[axis], self.stride[axis], self.count[axis]
        for tap in range(self.kernel[axis]):
            start = tap * self.dilation[axis] - self.padding[axis]
            first = max(-(start // stride), 0)  # the first block in which start + block * stride >= 0
            last = min((size - 1 - start) // stride + 1, count)
            if first < last:
                begin, end = start + first * stride, start + (last - 1) * stride + 1
                yield tap, slice(first, last), slice(begin, end, stride)


def unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    """Every block of an image that a sliding window sees as a column, as torch.nn.functional.unfold.

    Args:
        input: [N, C, H, W], or [C, H, W] without a batch; floating or bool.
        kernel_size: Positions of a block, an int or (vertical, horizontal), as those that follow.
        dilation: Input positions from one position of a block to the next.
        padding: Zeros on each side of the input.
        stride: Input positions from one block to the next.

    Returns:
        [N, C * R * S, P * Q], or without N: of each of P by Q blocks the R by S positions of every channel, where
        P = (H + 2 * padding - dilation * (R - 1) - 1) // stride + 1, and Q likewise; dtype and device of input; a
        Tensor for a Tensor.

    Raises:
        ShapeError: input has another number of axes, or no channel or position; a number is out of range; or the block
            is larger than the padded input.
        DTypeError: input is no array, or of integers; or a number is no int.
    """
    name = "unfold"
    x = _checked(name, input, 3, "[N, C, H, W] or [C, H, W]")
    blocks = _blocks(name, x.shape[-2:], kernel_size, dilation, padding, stride)
    if min(blocks.count) < 1:
        raise ShapeError(
            name, "kernel_size", list(blocks.kernel), f"blocks that fit into {list(blocks.size)} and its padding"
        )
    return _unfold(input, blocks)


def fold(input, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Blocks added up to the image that they are of, as torch.nn.functional.fold; the transpose of unfold.

    Args:
        input: [N, C * R * S, P * Q], or [C * R * S, P * Q] without a batch, as unfold gives them; floating or bool.
        output_size: Size of the image, (H, W) or an int for both.
        kernel_size: Positions of a block, an int or (vertical, horizontal), as those that follow.
        dilation: Output positions from one position of a block to the next.
        padding: Positions on each side of the output that are in blocks but not kept.
        stride: Output positions from one block to the next.

    Returns:
        [N, C, H, W], or without N; 0 where no block is; dtype and device of input, halves summed in float32; a Tensor
        for a Tensor.

    Raises:
        ShapeError: The shape of input is not that of the blocks of such an image, or a number is out of range.
        DTypeError: input is no array, or of integers; or a number is no int.
    """
    name = "fold"
    x = _checked(name, input, 2, "[N, C * R * S, P * Q] or [C * R * S, P * Q]")
    blocks = _blocks(name, _pair(name, "output_size", output_size, 1), kernel_size, dilation, padding, stride)
    area, count = blocks.kernel[0] * blocks.kernel[1], blocks.count[0] * blocks.count[1]
    if x.shape[-2] % area or min(blocks.count) < 1 or x.shape[-1] != count:
        expected = f"[..., C * {area}, {count}] for {' by '.join(map(str, blocks.count))} blocks"
        raise ShapeError(name, "input", list(x.shape), expected)
    return _fold(input, blocks)


def _checked(operator, input, axes, expected):
    """The plain array, floating or bool, with so many axes or one of a batch before them."""
    x = array(operator, "input", input)
    if x.dtype.kind != "b":
        check_float(operator, "input", x)
    if x.ndim not in (axes, axes + 1) or 0 in x.shape[-axes:]:
        raise ShapeError(operator, "input", list(x.shape), f"{expected}, of which only N may be 0")
    return x


def _blocks(operator, size, kernel_size, dilation, padding, stride):
    kernel = _pair(operator, "kernel_size", kernel_size, 1)
    dilation, padding = _pair(operator, "dilation", dilation, 1), _pair(operator, "padding", padding, 0)
    stride = _pair(operator, "stride", stride, 1)
    count = tuple((size[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1))
    return _Blocks(tuple(size), kernel, dilation, padding, stride, count)


def _pair(operator, argument, value, least):
    if isinstance(value, (tuple, list)) and len(value) != 2:  # of one value, too, which convolution takes
        raise ShapeError(operator, argument, list(value), "an int or a tuple of 2")
    return per_axis(operator, argument, value, 2, least)


def _unfold(x, blocks):
    """[..., C * R * S, P * Q] of [..., C, H, W]."""
    plain = raw(x)
    xp, dtype = namespace_of(plain), plain.dtype.newbyteorder("=")
    *lead, channels = plain.shape[:-2]
    (r, s), (p, q) = blocks.kernel, blocks.count
    if blocks.tile():
        pieces = plain.reshape(*lead, channels, p, r, q, s)
        y = xp.moveaxis(pieces, (-3, -1), (-4, -3)).astype(dtype, order="C")
    else:
        y = xp.zeros((*lead, channels, r, s, p, q), dtype)
        for column, image in blocks.taps():
            y[column] = plain[image]
    return moved("unfold", y.reshape(*lead, channels * r * s, p * q), x, lambda dy: _fold(dy, blocks))


def _fold(x, blocks):
    """[..., C, H, W] of [..., C * R * S, P * Q]."""
    plain = raw(x)
    xp, dtype = namespace_of(plain), plain.dtype.newbyteorder("=")
    *lead, rows, _ = plain.shape
    (r, s), (p, q) = blocks.kernel, blocks.count
    columns = plain.reshape(*lead, rows // (r * s), r, s, p, q)
    shape = (*lead, rows // (r * s), *blocks.size)
    if blocks.tile():
        y = xp.moveaxis(columns, (-4, -3), (-3, -1)).astype(dtype, order="C").reshape(shape)
    else:
        wide = accumulator(dtype) if is_float(plain) else dtype
        y = xp.zeros(shape, wide)
        for column, image in blocks.taps():
            into = y[image]
            into += columns[column].astype(wide, copy=False)
        y = y.astype(dtype, copy=False)
    return moved("fold", y, x, lambda dy: _unfold(dy, blocks))
