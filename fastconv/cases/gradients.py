"""Cases of the public functions: their results and gradients, through the tape, on arrays of one dtype.

The rows are those of the operators' tables, so every geometry is also differentiated.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy

from fastconv import backend, reference
from fastconv.arrays import is_array
from fastconv.autograd import Tensor
from fastconv.cases import conv, loss, norm, pool, resize
from fastconv.cases.case import Draw, by
from fastconv.tolerance import batch_norm_scales, cross_entropy_scales, group_norm_scales

DTYPES = ("float32", "float64")

# Functions that choose coordinates by the dtype of their input; all that they compute is rounded once anyway.
_BY_DTYPE = ("interpolate", "upsample", "upsample_nearest", "upsample_bilinear")
_MOMENTUM = 0.3
_LARGEST = 30_000  # terms: the tape is what is tested here, its operators have larger cases of their own


class GradientCase(NamedTuple):
    """One call of a public function and the backward pass through it.

    Attributes:
        function: Name in fastconv.functional.
        problem: Shapes and geometry in a few words.
        dtype: Name of the dtype of the inputs.
        quick: Whether it belongs to the quick selection.
        make: Function of a Draw that gives (inputs, options): the arrays that get gradients by parameter name,
            and the other arguments.
        lengths: For each result the most products that one of its elements sums.
    """

    function: str
    problem: str
    dtype: str
    quick: bool
    make: Callable
    lengths: tuple

    @property
    def operator(self):
        """What its row of a report is called."""
        return f"functional.{self.function}"

    @property
    def name(self):
        """The problem."""
        return self.problem

    @property
    def exact(self):
        """Whether every result must be exactly equal; the gradients of a maximum add up, so none must."""
        return False

    def arguments(self):
        """(inputs, options, dy), newly made."""
        draw = Draw(f"{self.function} {self.problem}", self.dtype, "normal")
        inputs, options = self.make(draw)
        with backend.use_backend("reference"):
            shape = _function(self.function)(**inputs, **_copied(options)).shape
        return inputs, options, draw.normal(*shape)

    def run(self, name, inputs, options, dy):
        """The result, the gradient of every input, and the running statistics that were updated.

        Args:
            name: Backend to compute on.
            inputs, options, dy: As arguments() gives them; none is changed.

        Returns:
            A tuple of arrays.
        """
        tensors = {key: Tensor(a, requires_grad=True) for key, a in inputs.items()}
        options = _copied(options)
        with backend.use_backend(name):
            y = _function(self.function)(**tensors, **options)
            y.backward(Tensor(dy))
        running = [a for key, a in options.items() if key.startswith("running_")]
        return (y.data, *(t.grad.data for t in tensors.values()), *running)

    def expected(self):
        """The results of run() on the reference in float64."""
        return _solution(self)[0]

    def scale(self):
        """For each result the scale of its errors, see fastconv.tolerance.bound."""
        return _solution(self)[1]

    def length(self):
        """For each result the most products that one of its elements sums, L."""
        return self.lengths

    def result_dtypes(self):
        """For each result its dtype."""
        return (numpy.dtype(self.dtype),) * len(self.lengths)


def gradient_cases():
    """A list of the GradientCases of every public function of the families that have operators."""
    rows = []
    for row in (*conv.CONVS, *conv.STORED):
        rows.append(_conv(row))
    for row in conv.TRANSPOSED:
        rows.append(_conv_transpose(row))
    for row in (*pool.POOLS, pool.STORED_POOL):
        rows.append(_max_pool(row))
        rows.extend(_avg_pools(row))
    for row in (*pool.ADAPTIVE, pool.STORED_ADAPTIVE):
        rows.append(_adaptive("avg", row))
        rows.append(_adaptive("max", row))
    for row in (*norm.SHAPES, norm.STORED_SHAPE):
        rows.extend(_batch_norms(row))
    for row in (*norm.GROUPED, norm.STORED_GROUPED):
        rows.extend(_group_norms(row))
    for row in (*resize.SIZES, resize.STORED_SIZE):
        rows.extend(_interpolations(row))
    for row in (*loss.SCORES, loss.STORED_SCORES):
        rows.extend(_cross_entropies(row))
    return [
        GradientCase(function, problem, dtype, True, make, lengths)
        for function, problem, work, make, lengths in rows
        if work <= _LARGEST
        for dtype in DTYPES
    ]


def widened(inputs, options, dy):
    """The same with every array in float64."""

    def wide(value):
        return value.astype("float64") if isinstance(value, numpy.ndarray) and value.dtype.kind != "i" else value

    return {k: wide(v) for k, v in inputs.items()}, {k: wide(v) for k, v in options.items()}, wide(dy)


def _function(name):
    from fastconv import functional  # it imports all of the library, which listing the cases does not need

    return getattr(functional, name)


def _copied(options):
    """Options with their arrays copied: running statistics are updated in place."""
    return {k: v.copy() if is_array(v) else v for k, v in options.items()}


@functools.lru_cache(maxsize=1)
def _solution(case):
    inputs, options, dy = case.arguments() if case.function in _BY_DTYPE else widened(*case.arguments())
    expected = tuple(a.astype("float64") for a in case.run("reference", inputs, options, dy))
    if case.function == "batch_norm":
        return expected, _batch_norm_scales(inputs, options, dy)
    if case.function == "cross_entropy":
        return expected, _cross_entropy_scales(inputs, options, dy)
    if case.function in ("layer_norm", "group_norm", "instance_norm"):
        return expected, _group_norm_scales(case.function, inputs, options, dy)
    # A sum of products has the scale of its absolute values; a maximum is a choice, whose gradient alone is a sum.
    is_max = "max" in case.function
    absolute = {k: v if is_max else numpy.abs(v) for k, v in inputs.items()}
    scales = [numpy.abs(s) for s in case.run("reference", absolute, options, numpy.abs(dy))]
    if is_max:
        scales[0] = numpy.zeros_like(scales[0])
    return expected, tuple(scales)


def _batch_norm_scales(inputs, options, dy):
    x, w, b = inputs["input"], inputs.get("weight"), inputs.get("bias")
    running = [options[k] for k in ("running_mean", "running_var")]
    statistics = reference.batch_norm_statistics(x) if options["training"] else running
    y, dx, dw, db = batch_norm_scales(dy, x, *statistics, w, b, options["eps"])
    scales = [y, dx, *([dw] if w is not None else []), *([db] if b is not None else [])]
    if not options["training"]:
        return (*scales, *map(abs, running))
    updates = reference.batch_norm_statistics(abs(x))[0], reference.batch_norm_statistics(x)[1]
    # 2: the unbiased variance is at most twice the biased one
    return (*scales, *(abs(old) + 2 * new for old, new in zip(running, updates, strict=True)))


def _group_norm_scales(function, inputs, options, dy):
    x, w, b = inputs["input"], inputs.get("weight"), inputs.get("bias")
    running = [options[k] for k in ("running_mean", "running_var") if k in options]
    if not options.get("use_input_stats", True):
        scales = batch_norm_scales(dy, x, *running, w, b, options["eps"])
    else:
        groups = options.get("num_groups", x.shape[1] or 1)
        if function == "layer_norm":
            length = math.prod(options["normalized_shape"])
            dy, x = (a.reshape(a.size // max(length, 1), length) for a in (dy, x))
            w, b = (None if a is None else a.reshape(length) for a in (w, b))
            groups = 1
        statistics = reference.group_norm_forward(x, groups, None, None, 0.0)[1:]
        scales = group_norm_scales(dy, x, *statistics, groups, w, b, options["eps"])
        if running and x.size:
            updates = reference.group_norm_forward(abs(x), groups, None, None, 0.0)[1], statistics[1]
            running = [abs(old) + 2 * new.mean(axis=0) for old, new in zip(running, updates, strict=True)]
    y, dx, dw, db = (s.reshape(inputs[k].shape) if k in inputs else s for s, k in zip(scales, _RESULTS, strict=True))
    return (y, dx, *([dw] if w is not None else []), *([db] if b is not None else []), *map(abs, running))


# Which of the inputs has the shape of y, dx, dw and db.
_RESULTS = ("input", "input", "weight", "bias")


def _conv(row):
    window = conv.conv_window(row)
    stride, padding, dilation, groups = row[5:]

    def make(draw):
        shapes = dict(input=window.input_shape, weight=window.weight_shape, bias=(window.filters,))
        arrays = {key: draw.normal(*shape) for key, shape in shapes.items()}
        return arrays, dict(stride=stride, padding=padding, dilation=dilation, groups=groups)

    into, out, pixels = _conv_lengths(window)
    work = math.prod(window.output_shape) * into
    return f"conv{window.rank}d", conv.label(row), work, make, (into + 1, out, pixels, pixels)


def _conv_transpose(row):
    window = conv.transposed_window(row)
    stride, padding, dilation, groups, extra = row[5:]

    def make(draw):
        shapes = dict(input=window.output_shape, weight=window.weight_shape, bias=(window.channels,))
        arrays = {key: draw.normal(*shape) for key, shape in shapes.items()}
        return arrays, dict(stride=stride, padding=padding, output_padding=extra, groups=groups, dilation=dilation)

    into, out, pixels = _conv_lengths(window)
    work = math.prod(window.output_shape) * into
    result_pixels = window.batch * math.prod(window.size)
    return f"conv_transpose{window.rank}d", conv.label(row), work, make, (out + 1, into, pixels, result_pixels)


def _conv_lengths(window):
    """Products of one element of y, of dx and of dw."""
    taps = math.prod(window.kernel)
    pixels = window.batch * math.prod(window.output)
    return window.channels // window.groups * taps, window.filters // window.groups * taps, pixels


def _max_pool(row):
    n, channels, size, kernel, stride, padding, dilation, ceil_mode = row
    options = dict(kernel_size=kernel, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode)
    work = math.prod(pool.pool_window(row).output_shape) * math.prod(kernel)
    return f"max_pool{len(size)}d", pool.label(row), work, _images(n, channels, size, options), (1, math.prod(kernel))


def _avg_pools(row):
    n, channels, size, kernel, stride, padding, _, ceil_mode = row
    row = (*row[:6], 1, ceil_mode)
    work = math.prod(pool.pool_window(row).output_shape) * math.prod(kernel)
    for include, divisor in pool.AVERAGES:
        options = dict(
            kernel_size=kernel, stride=stride, padding=padding, ceil_mode=ceil_mode, count_include_pad=include
        )
        if divisor is not None:
            if len(size) == 1:
                continue  # PyTorch's avg_pool1d has none
            options["divisor_override"] = divisor
        make = _images(n, channels, size, options)
        lengths = (math.prod(kernel), math.prod(kernel))
        yield f"avg_pool{len(size)}d", pool.average_label(row, include, divisor), work, make, lengths


def _adaptive(kind, row):
    n, channels, size, output = row
    make = _images(n, channels, size, dict(output_size=output))
    length = math.prod(max(s, o) for s, o in zip(size, output, strict=True))
    problem = f"{by((n, channels, *size))} to {by(output)}"
    return f"adaptive_{kind}_pool{len(size)}d", problem, n * channels * length, make, (length, length)


def _interpolations(row):
    n, channels, size, output, scales = row
    given = dict(size=output) if scales is None else dict(scale_factor=scales)
    linear = ("linear", "bilinear", "trilinear")[len(size) - 1]
    for mode, align_corners in resize.RULES:
        options = dict(mode=mode) if "nearest" in mode else dict(mode=linear, align_corners=align_corners)
        problem, work = resize.label(row, mode, align_corners), resize.work_of(row, mode, align_corners)
        lengths = resize.lengths(row, mode, align_corners)
        yield "interpolate", problem, work, _images(n, channels, size, dict(**given, **options)), lengths
        old = {("nearest", False): "upsample_nearest", ("linear", False): "upsample"}.get((mode, align_corners))
        if mode == "linear" and align_corners and len(size) == 2:
            old = "upsample_bilinear"
        if old is not None:
            make = _images(n, channels, size, dict(**given, **(options if old == "upsample" else {})))
            yield old, problem, work, make, lengths


def _cross_entropies(row):
    n, classes, size = row
    for weighted, ignore_index, smoothing in loss.RULES:
        if ignore_index >= classes:
            continue

        def make(draw, weighted=weighted, ignore_index=ignore_index, smoothing=smoothing):
            options = dict(target=loss.targets(draw, row, ignore_index), ignore_index=ignore_index)
            options |= dict(weight=abs(draw.normal(classes)) if weighted else None, label_smoothing=smoothing)
            return dict(input=draw.normal(n, classes, *size)), dict(**options, reduction="none")

        problem = loss.label(row, weighted, ignore_index, smoothing)
        yield "cross_entropy", problem, n * classes * math.prod(size) * classes, make, (classes, classes)


def _cross_entropy_scales(inputs, options, dy):
    arguments = (options[key] for key in ("target", "weight", "ignore_index", "label_smoothing"))
    loss_scale, _, dx_scale = cross_entropy_scales(inputs["input"], *arguments, dy)
    return loss_scale, dx_scale


def _images(n, channels, size, options):
    def make(draw):
        return dict(input=draw.normal(n, channels, *size)), options

    return make


def _batch_norms(row):
    n, channels, size = row
    count = n * math.prod(size)
    for training in (True, False):
        if training and count < 2:
            continue  # refused: the variance of one value says nothing
        for affine in (True, False):

            def make(draw, training=training, affine=affine):
                inputs = dict(input=draw.normal(n, channels, *size))
                if affine:
                    inputs |= dict(weight=draw.normal(channels), bias=draw.normal(channels))
                running = dict(running_mean=draw.normal(channels), running_var=draw.positive(channels))
                return inputs, dict(**running, training=training, momentum=_MOMENTUM, eps=norm.EPS)

            problem = f"{by((n, channels, *size))}, {'training' if training else 'inference'}"
            problem += "" if affine else ", no weight"
            lengths = (max(count, 1),) * (6 if affine else 4)
            yield "batch_norm", problem, n * channels * math.prod(size), make, lengths


def _group_norms(row):
    """Layer norm of the last axes, group norm, and instance norm by its own and by running statistics."""
    n, channels, size, groups = row
    shape, positions = (n, channels, *size), math.prod(size)
    work = n * channels * positions
    plans = [("group_norm", dict(num_groups=groups), (channels,), channels // groups * positions)]
    plans.append(("layer_norm", dict(normalized_shape=shape[1:]), shape[1:], channels * positions))
    if positions > 1:
        plans.append(("instance_norm", dict(use_input_stats=True, momentum=_MOMENTUM), (channels,), positions))
    if size and groups == channels:
        plans.append(("instance_norm", dict(use_input_stats=False), (channels,), 1))
    for function, options, parameters, values in plans:
        if function == "group_norm" and work == groups:
            continue  # refused: one value
        for affine in (True, False):

            def make(draw, options=options, parameters=parameters, affine=affine):
                inputs = dict(input=draw.normal(*shape))
                if affine:
                    inputs |= dict(weight=draw.normal(*parameters), bias=draw.normal(*parameters))
                if "use_input_stats" in options:
                    options = dict(running_mean=draw.normal(channels), running_var=draw.positive(channels)) | options
                return inputs, dict(eps=norm.EPS) | options

            own = "" if options.get("use_input_stats", True) else ", running statistics"
            problem = f"{by(shape)} in {groups}{own}{'' if affine else ', no weight'}"
            of_parameters = (max(n * positions, 1),) * 2 if affine else ()
            running = (max(n * positions, 1),) * 2 if "use_input_stats" in options else ()
            yield function, problem, work, make, (values, values, *of_parameters, *running)
