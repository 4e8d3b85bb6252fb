"""Docstrings of max and average pooling, which are the same for one, two and three axes but for a few words."""

_WINDOW_ARGS = """input: [N, C, {size}], or [C, {size}] without a batch. NumPy runs on the CPU, CuPy on the array's GPU.
        kernel_size: Positions that a window spans; an int or one a spatial axis.
        stride: Input positions between windows; an int or one a spatial axis. Default: kernel_size.
        padding: Positions on each side, {padding}: an int or one a spatial axis, at most
            half of kernel_size; or a pair (before, after) a spatial axis, such as {pairs}, which
            PyTorch does not have."""

_RAISES = """ShapeError: Shapes disagree, a number is out of range, {no_channels}
            or {too_small}.
        DTypeError: input is not floating point or no array, or an argument is of another type."""
_NO_CHANNELS = "there are no channels,"

_MAX_DOC = """Largest element of each window, as torch.nn.functional.max_pool{rank}d.

    Of equal elements the first in the order of the input counts; a NaN is larger than any number, and of
    several the last counts. Signed integers and uint8 are served too{integers}.

    Args:
        {window_args}
        dilation: Input positions between the elements of a window; an int or one a spatial axis.
        ceil_mode: Whether a last window that overhangs the padded input gives an output too.
        return_indices: Whether to return also where each maximum was found.

    Returns:
        [N, C, {output}], each output size (size + before + after - dilation * (kernel_size - 1) - 1) // stride + 1,
        the division rounded up with ceil_mode; dtype, device and memory format of input; a Tensor if input is one.
        With return_indices also an int64 array or Tensor of that shape: positions in the flattened [{size}].

    Raises:
        {raises}
    """

_AVG_DOC = """Mean of each window, as torch.nn.functional.avg_pool{rank}d; of int64 the mean rounded towards 0.

    Args:
        {window_args}
        ceil_mode: Whether a last window that overhangs the padded input gives an output too.
        count_include_pad: Whether the padding, which is zero, counts as elements of a window.{divisor}

    Returns:
        [N, C, {output}], each output size (size + before + after - kernel_size) // stride + 1, the division
        rounded up with ceil_mode; dtype, device and memory format of input; a Tensor if input is one.

    Raises:
        {raises}
    """

_ADAPTIVE_DOC = """{what} of as many windows as asked for, as torch.nn.functional.adaptive_{kind}_pool{rank}d.

    Output position p covers input positions floor(p * size / output) up to, not including,
    ceil((p + 1) * size / output); windows may overlap.

    Args:
        input: [N, C, {size}], or [C, {size}] without a batch. NumPy runs on the CPU, CuPy on the array's GPU.
        output_size: {output_size}.{return_indices}

    Returns:
        [N, C, *output_size]; dtype, device and memory format of input; a Tensor if input is one.{indices}

    Raises:
        {raises}
    """

_WORDS = {
    1: dict(size="L", output="P", pairs="((2, 0),)"),
    2: dict(size="H, W", output="P, Q", pairs="((1, 2), (0, 1))"),
    3: dict(size="D, H, W", output="O, P, Q", pairs="((1, 2), (0, 1), (1, 1))"),
}
_WITH_INDICES_DOC = """{name} with return_indices=True, as torch.nn.functional.{name}_with_indices.

    Args:
        {arguments}: As of {name}.
        return_indices: Accepted as in PyTorch, and without effect.

    Returns:
        The maxima and an int64 array or Tensor of their positions in the flattened [{size}].

    Raises:
        ShapeError, DTypeError: As {name}.
    """
_DIVISOR = "\n        divisor_override: What to divide each sum by instead of the number of elements; an int, not 0."
_RETURN_INDICES = "\n        return_indices: Whether to return also where each maximum was found."
_INDICES = (
    "\n        With return_indices also an int64 array or Tensor of that shape: positions in the flattened [{size}]."
)
_OUTPUT_SIZE = "An int, or one a spatial axis, of which None keeps the input's size"


def _documented(
    template,
    rank,
    padding="",
    too_small="the window is larger than the padded input",
    no_channels=_NO_CHANNELS,
    **parts,
):
    words = _WORDS[rank]

    def decorate(function):
        function.__doc__ = template.format(
            rank=rank,
            **words,
            raises=_RAISES.format(too_small=too_small, no_channels=no_channels),
            window_args=_WINDOW_ARGS.format(padding=padding, **words),
            **{name: part.format(**words) for name, part in parts.items()},
        )
        return function

    return decorate


def max_documented(rank):
    """Decorator that documents a max pooling."""
    integers = " if the indices are asked for, as in PyTorch" if rank == 1 else ""
    return _documented(_MAX_DOC, rank, "never a maximum", "a window holds no element of the input", integers=integers)


def avg_documented(rank):
    """Decorator that documents an average pooling."""
    return _documented(_AVG_DOC, rank, "zeros", divisor="" if rank == 1 else _DIVISOR)


def adaptive_documented(rank, kind):
    """Decorator that documents an adaptive pooling, kind "max" or "avg"."""
    is_max = kind == "max"
    return _documented(
        _ADAPTIVE_DOC,
        rank,
        too_small="the input has an empty spatial axis" + ("" if is_max else ", other than for a mean of NaN"),
        no_channels="a batch has no channels," if is_max or rank == 3 else "",
        output_size="An int, or a tuple of one" if rank == 1 else _OUTPUT_SIZE,
        kind=kind,
        what="Largest element" if is_max else "Mean",
        return_indices=_RETURN_INDICES if is_max else "",
        indices=_INDICES if is_max else "",
    )


def with_indices_documented(rank, name, arguments):
    """Decorator that documents what always returns the indices of the function so named."""
    return _documented(_WITH_INDICES_DOC, rank, name=name, arguments=arguments)
