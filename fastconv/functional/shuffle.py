"""Channels rearranged into pixels and back, and among each other; each is the gradient of its inverse.

A result is new memory in the format of its input: of [N, C, *size] stored with C innermost it is stored so too.
"""

from fastconv.arrays import namespace_of
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.operands import array, as_int
from fastconv.functional.shape import moved


def pixel_shuffle(input, upscale_factor):
    """Blocks of channels become blocks of pixels, as torch.nn.functional.pixel_shuffle.

    y[..., c, h * r + i, w * r + j] = x[..., c * r * r + i * r + j, h, w] with r = upscale_factor.

    Args:
        input: [..., C * r * r, H, W], of any dtype, with any number of axes in front.
        upscale_factor: r, an int of at least 1.

    Returns:
        [..., C, H * r, W * r]; a Tensor for a Tensor.

    Raises:
        ShapeError: input has less than three axes, its channels are not a multiple of r * r, or r is below 1.
        DTypeError: input is no array, or upscale_factor no int.

    Source: Shi et al., arXiv:1609.05158.
    """
    name = "pixel_shuffle"
    x = _images(name, input)
    r = _positive(name, "upscale_factor", upscale_factor)
    *_, channels, height, width = x.shape
    if channels % (r * r):
        raise ShapeError(name, "input", list(x.shape), f"channels that are a multiple of {r} * {r}")
    blocks = (channels // (r * r), r, r, height, width)
    y = _rearranged(x, blocks, (0, 3, 1, 4, 2), 1, (blocks[0], height * r, width * r))
    return moved(name, y, input, lambda dy: pixel_unshuffle(dy, r))


def pixel_unshuffle(input, downscale_factor):
    """Blocks of pixels become blocks of channels, as torch.nn.functional.pixel_unshuffle: undoes pixel_shuffle.

    Args:
        input: [..., C, H * r, W * r], of any dtype, with any number of axes in front.
        downscale_factor: r, an int of at least 1.

    Returns:
        [..., C * r * r, H, W]; a Tensor for a Tensor. Of an input without elements too, which PyTorch returns as it is
        on a CPU.

    Raises:
        ShapeError: input has less than three axes, its height or width is not a multiple of r, or r is below 1.
        DTypeError: input is no array, or downscale_factor no int.
    """
    name = "pixel_unshuffle"
    x = _images(name, input)
    r = _positive(name, "downscale_factor", downscale_factor)
    *_, channels, height, width = x.shape
    if height % r or width % r:
        raise ShapeError(name, "input", list(x.shape), f"a height and a width that are multiples of {r}")
    blocks = (channels, height // r, r, width // r, r)
    y = _rearranged(x, blocks, (0, 2, 4, 1, 3), 3, (channels * r * r, height // r, width // r))
    return moved(name, y, input, lambda dy: pixel_shuffle(dy, r))


def channel_shuffle(input, groups):
    """Channels of all groups take turns, as torch.nn.functional.channel_shuffle.

    y[:, k * groups + g] = x[:, g * (C // groups) + k].

    Args:
        input: [N, C, *size] with at least one spatial axis, of any dtype.
        groups: How many groups the channels are divided into, an int of at least 1.

    Returns:
        The shape of input; a Tensor for a Tensor.

    Raises:
        ShapeError: input has less than three axes, its channels are not a multiple of groups, or groups is below 1.
        DTypeError: input is no array, or groups no int.

    Source: Zhang et al., ShuffleNet, arXiv:1707.01083.
    """
    return _channel_shuffle("channel_shuffle", input, groups)


def native_channel_shuffle(input, groups):
    """As channel_shuffle, which PyTorch has twice; this one has gradients as well, unlike PyTorch's.

    Args:
        input: [N, C, *size] with at least one spatial axis, of any dtype.
        groups: How many groups the channels are divided into, an int of at least 1.

    Returns:
        The shape of input; a Tensor for a Tensor.

    Raises:
        ShapeError: input has less than three axes, its channels are not a multiple of groups, or groups is below 1.
        DTypeError: input is no array, or groups no int.
    """
    return _channel_shuffle("native_channel_shuffle", input, groups)


def _channel_shuffle(name, input, groups):
    x = _images(name, input)
    groups = _positive(name, "groups", groups)
    channels, *size = x.shape[1:]
    if channels % groups:
        raise ShapeError(name, "input", list(x.shape), f"channels that are a multiple of {groups} groups")
    members = channels // groups
    order = (1, 0, *range(2, 2 + len(size)))
    y = _rearranged(x, (groups, members, *size), order, 2, x.shape[1:])
    return moved(name, y, input, lambda dy: _channel_shuffle(name, dy, max(members, 1)))


def _images(name, input):
    x = array(name, "input", input)
    if x.ndim < 3:
        raise ShapeError(name, "input", list(x.shape), "at least three axes")
    return x


def _positive(name, argument, value):
    if isinstance(value, bool):
        raise DTypeError(name, argument, repr(value), "an int")
    number = as_int(name, argument, value)
    if number < 1:
        raise ShapeError(name, argument, number, "at least 1")
    return number


def _rearranged(x, blocks, order, channel_axes, image):
    """The last axes of x, [C, *size], split into blocks and put together as image, in new memory.

    order is that of the blocks in the result; the first channel_axes of them make up its channels.
    """
    xp = namespace_of(x)
    lead = x.shape[: x.ndim - len(image)]
    axes = [*range(len(lead)), *(len(lead) + i for i in order)]
    last = len(lead) == 1 and x.ndim in (4, 5) and not x.flags.c_contiguous and xp.moveaxis(x, 1, -1).flags.c_contiguous
    shape = image
    if last:
        axes = axes[:1] + axes[1 + channel_axes :] + axes[1 : 1 + channel_axes]
        shape = (*image[1:], image[0])
    y = x.reshape(*lead, *blocks).transpose(axes).astype(x.dtype.newbyteorder("="), order="C").reshape(*lead, *shape)
    return xp.moveaxis(y, -1, 1) if last else y
