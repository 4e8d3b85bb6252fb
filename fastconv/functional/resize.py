"""Resizing of images, signals and volumes, and its gradients.

It is linear, so that forward and input gradient are each other's rules.
"""

from fastconv import autograd, backend
from fastconv.errors import ShapeError
from fastconv.resize import output_size

# What PyTorch calls linear interpolation of one, two and three axes.
_LINEAR = {"linear": 1, "bilinear": 2, "trilinear": 3}
_NEAREST = ("nearest", "nearest-exact")


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
    the sake of older networks, at p * scale.

    Args:
        input: [N, C, L], [N, C, H, W] or [N, C, D, H, W]. NumPy runs on the CPU, CuPy on the array's GPU.
        size: Output size, an int or one a spatial axis; or None.
        scale_factor: Output size / input size, a number or one a spatial axis; or None. One of the two is given.
        mode: "nearest" or "nearest-exact", one neighbour; "linear", "bilinear" or "trilinear", for one, two and three
            spatial axes, two neighbours on each of them.
        align_corners: For the linear modes, whether the first and last positions of input and output coincide; None
            is False.
        recompute_scale_factor: Whether the scale follows from the sizes even where scale_factor is given.
        antialias: Not served; False.

    Returns:
        [N, C, *output size], size or floor(input size * scale_factor) on each axis; dtype, device and memory format of
        input; a Tensor if input is one.

    Raises:
        ShapeError: A size is below 1, not one of size and scale_factor is given, the mode is not one of these or not
            for this number of axes, or another argument does not go with it.
        DTypeError: input is not floating point or no array, or an argument is of the wrong type.
    """
    name = "interpolate"
    x = autograd.raw(input)
    output, scales = output_size(name, x, size, scale_factor, bool(recompute_scale_factor))
    _check_mode(mode, len(output), align_corners, antialias)
    rule = "linear" if mode in _LINEAR else mode
    return _resize(input, output, rule, bool(align_corners), scales)


def _check_mode(mode, rank, align_corners, antialias):
    if mode not in _NEAREST and mode not in _LINEAR:
        raise ShapeError("interpolate", "mode", repr(mode), " or ".join(map(repr, (*_NEAREST, *_LINEAR))))
    if _LINEAR.get(mode, rank) != rank:
        fitting = next(name for name, axes in _LINEAR.items() if axes == rank)
        raise ShapeError("interpolate", "mode", repr(mode), f"{fitting!r} for {rank} spatial axes")
    if mode in _NEAREST and align_corners is not None:
        raise ShapeError("interpolate", "align_corners", align_corners, f"None for the mode {mode!r}")
    if antialias:
        raise ShapeError("interpolate", "antialias", antialias, "False")


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
