"""Resizing of images, signals and volumes, and its gradients.

It is linear, so that forward and input gradient are each other's rules.
"""

from fastconv import autograd, backend
from fastconv.errors import ShapeError
from fastconv.functional.pool import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from fastconv.functional.resize_bytes import resized_bytes
from fastconv.resize import output_size

# Modes: spatial axes that they are for, and what backends call them without and with antialias.
_MODES = {
    "nearest": ((1, 2, 3), "nearest", None),
    "nearest-exact": ((1, 2, 3), "nearest-exact", None),
    "area": ((1, 2, 3), "area", None),
    "linear": ((1,), "linear", None),
    "bilinear": ((2,), "linear", "linear-antialias"),
    "trilinear": ((3,), "linear", None),
    "bicubic": ((2,), "cubic", "cubic-antialias"),
    "lanczos": ((2,), None, "lanczos-antialias"),
}
_OF_BYTES = ("nearest", "nearest-exact", "bilinear", "bicubic", "lanczos")
_UNALIGNED = ("nearest", "nearest-exact", "area")
_MEANS = (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)


def interpolate(
    input,
    size=None,
    scale_factor=None,
    mode="nearest",
    align_corners=None,
    recompute_scale_factor=None,
    antialias=False,
):
    """Resize signals, images or volumes, as torch.nn.functional.interpolate.

    Output position p lies at the input coordinate (p + 1/2) * scale - 1/2, where scale is input size / output size, or
    1 / scale_factor where that is given; with align_corners at p * (size - 1) / (output - 1); with mode "nearest", for
    the sake of older networks, at p * scale. fastconv.resize has the rules in full.

    PyTorch differs where it contradicts itself. Its gradients are not always those of its results: with antialias
    where a scale factor keeps the size of an axis, and of the nearest modes but for small images. With antialias a
    result of one column is wrong there: every row is summed as the first one. And the nearest neighbours may depend
    on the memory format there.

    Args:
        input: [N, C, L], [N, C, H, W] or [N, C, D, H, W], floating; or of uint8 with the nearest modes, and with two
            spatial axes the others but "area". NumPy runs on the CPU, CuPy on the array's GPU.
        size: Output size, an int or one a spatial axis; or None.
        scale_factor: Output size / input size, a number or one a spatial axis; or None. One of the two is given.
        mode: "nearest" or "nearest-exact", one neighbour; "linear", "bilinear" or "trilinear", for one, two and three
            spatial axes, two neighbours on each of them; "bicubic", for two, four neighbours on each; "area", means of
            adaptive pooling; "lanczos", for two, with antialias only.
        align_corners: For the linear and cubic modes, whether the first and last positions of input and output
            coincide; None is False.
        recompute_scale_factor: Whether the scale follows from the sizes even where scale_factor is given.
        antialias: Whether an image that shrinks is averaged over all that an output position covers, as Pillow does;
            for "bilinear", "bicubic" and "lanczos".

    Returns:
        [N, C, *output size], size or floor(input size * scale_factor) on each axis; dtype, device and memory format of
        input; a Tensor if input is one.

    Raises:
        ShapeError: A size is below 1, not one of size and scale_factor is given, the mode is not one of these or not
            for this number of axes, or another argument does not go with it.
        DTypeError: input is of another dtype or no array, or an argument is of the wrong type.
    """
    name = "interpolate"
    x = autograd.raw(input)
    mean = mode == "area"
    also = ("uint8",) if mode in _OF_BYTES else ()
    recompute = bool(recompute_scale_factor)
    output, scales = output_size(name, x, size, scale_factor, recompute, least=0 if mean else 1, also=also)
    rule = _rule(mode, len(output), align_corners, antialias)
    if mean:
        return _MEANS[len(output) - 1](input, output)
    if x.dtype.name in also:
        y = resized_bytes(x, output, rule, bool(align_corners), scales)
        return autograd.Tensor(y) if isinstance(input, autograd.Tensor) else y
    return _resize(input, output, rule, bool(align_corners), scales)


def upsample(input, size=None, scale_factor=None, mode="nearest", align_corners=None):
    """The old name of interpolate, as torch.nn.functional.upsample.

    Args:
        input, size, scale_factor, mode, align_corners: Those of interpolate.

    Returns:
        What interpolate returns.

    Raises:
        ShapeError, DTypeError: As interpolate.
    """
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input, size=None, scale_factor=None):
    """The old name of interpolate with mode "nearest", as torch.nn.functional.upsample_nearest.

    Args:
        input, size, scale_factor: Those of interpolate.

    Returns:
        What interpolate returns.

    Raises:
        ShapeError, DTypeError: As interpolate.
    """
    return interpolate(input, size, scale_factor, mode="nearest")


def upsample_bilinear(input, size=None, scale_factor=None):
    """The old name of interpolate with mode "bilinear" and aligned corners, as torch.nn.functional.upsample_bilinear.

    Args:
        input, size, scale_factor: Those of interpolate.

    Returns:
        What interpolate returns.

    Raises:
        ShapeError, DTypeError: As interpolate.
    """
    return interpolate(input, size, scale_factor, mode="bilinear", align_corners=True)


def _rule(mode, rank, align_corners, antialias):
    """What backends call the mode."""
    if not isinstance(mode, str) or mode not in _MODES:
        raise ShapeError("interpolate", "mode", repr(mode), " or ".join(map(repr, _MODES)))
    ranks, plain, smooth = _MODES[mode]
    if rank not in ranks:
        fitting = " or ".join(repr(name) for name, (axes, _, _) in _MODES.items() if rank in axes)
        raise ShapeError("interpolate", "mode", repr(mode), f"{fitting} for {rank} spatial axes")
    if align_corners is not None and mode in _UNALIGNED:
        raise ShapeError("interpolate", "align_corners", align_corners, f"None for the mode {mode!r}")
    if align_corners and mode == "lanczos":
        raise ShapeError("interpolate", "align_corners", align_corners, f"None or False for the mode {mode!r}")
    rule = smooth if antialias else plain
    if rule is None:
        raise ShapeError("interpolate", "antialias", antialias, f"{not antialias} for the mode {mode!r}")
    return rule


def _resize(x, output, mode, align_corners, scales):
    """y [N, C, *output]."""
    plain = autograd.raw(x)
    y = backend.of(plain).resize_forward(plain, output, mode, align_corners, scales)
    size = x.shape[2:]

    def rule(dy, _):
        return (lambda: _resize_input_grad(dy, size, mode, align_corners, scales),)

    return autograd.record("interpolate", y, (x,), rule)


def _resize_input_grad(dy, size, mode, align_corners, scales):
    """dx [N, C, *size]."""
    plain = autograd.raw(dy)
    dx = backend.of(plain).resize_input_grad(plain, size, mode, align_corners, scales)
    output = dy.shape[2:]

    def rule(ddx, _):
        return (lambda: _resize(ddx, output, mode, align_corners, scales),)

    return autograd.record("interpolate", dx, (dy,), rule)
