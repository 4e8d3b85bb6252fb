"""Case: one call of a backend operator, with its inputs, its expected results and their error scale."""

import functools
import importlib.util
import math
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy

from fastconv import reference
from fastconv.arrays import HALVES, accumulator
from fastconv.cases import lengths, scales, scales_grid, scales_roi
from fastconv.cases.storage import stored
from fastconv.pool import in_plane
from fastconv.tolerance import batch_norm_scales, cross_entropy_scales, group_norm_scales

# Results that only move or compare elements of the input: they must be exactly equal.
EXACT = ("max_pool_forward", "adaptive_max_pool_forward", "pool_gather", "pool_place", "nms", "roi_pool_forward")

# Operators that choose coordinates by the dtype of their input: the reference gets it in the dtype of the case.
BY_DTYPE = (
    "resize_forward", "resize_input_grad", "nms", *scales_grid.SCALES, *scales_roi.SCALES, "roi_pool_forward",
)  # fmt: skip


class Case(NamedTuple):
    """One call of a backend operator.

    Attributes:
        operator: Name in fastconv.backend.OPERATORS.
        problem: Shapes and geometry in a few words; with fill, what the inputs are drawn by.
        dtype: Name of the dtype of the inputs.
        storage: How the arrays are stored, see fastconv.cases.storage.stored.
        fill: What the data is like: "normal"; "ties", few values, infinities and NaN; "special", normal with a few
            of those; "shifted", a mean far above the spread; "repeated", constant along the last axis.
        work: Terms that a loop over single elements would visit.
        quick: Whether it belongs to the quick selection.
        make: Function of a Draw that gives the arguments.
    """

    operator: str
    problem: str
    dtype: str
    storage: str
    fill: str
    work: int
    quick: bool
    make: Callable

    @property
    def name(self):
        """Problem, fill and storage."""
        words = [self.problem, self.fill, self.storage]
        return ", ".join(w for w in words if w not in ("normal", "contiguous"))

    @property
    def exact(self):
        """Whether every result must be exactly equal to the expected one."""
        return self.operator in EXACT

    def values(self):
        """The arguments of the operator, arrays C-contiguous; the same at every call."""
        return tuple(self.make(Draw(f"{self.operator} {self.problem} {self.fill}", self.dtype, self.fill)))

    def arguments(self):
        """The arguments of the operator, arrays newly made and stored as the case says."""
        return tuple(
            stored(value, self.storage, position) if isinstance(value, numpy.ndarray) else value
            for position, value in enumerate(self.values())
        )

    def expected(self):
        """The results of the reference in float64, not rounded to the dtype of the case; a tuple of arrays."""
        return _solution(self._replace(storage="contiguous"))[0]

    def scale(self):
        """For each result the scale of its errors, fastconv.tolerance.bound: what absolute values would give."""
        return _solution(self._replace(storage="contiguous"))[1]

    def length(self):
        """For each result the most products that one of its elements sums, L."""
        return _solution(self._replace(storage="contiguous"))[2]

    def result_dtypes(self):
        """For each result its dtype, native in byte order."""
        dtype = dtype_of(self.dtype)
        if self.operator in ("max_pool_forward", "adaptive_max_pool_forward", "roi_pool_forward"):
            return dtype, self.expected()[1].dtype
        if self.operator == "nms":
            return (numpy.dtype("int64"),)
        if self.operator == "binary_sum":
            return (accumulator(dtype),)
        if self.operator in ("batch_norm_statistics", "cross_entropy_forward", "nll_forward"):
            return accumulator(dtype), accumulator(dtype)
        if self.operator in ("group_norm_forward", "rms_norm_forward"):
            return dtype, *(accumulator(dtype),) * (len(self.expected()) - 1)
        return (dtype,) * len(self.expected())


class Draw:
    """Seeded inputs of one case; every dtype rounds the same numbers.

    Args:
        seed: Text that names the problem.
        dtype: Name of the dtype.
        fill: See Case.
    """

    def __init__(self, seed, dtype, fill):
        self.generator = numpy.random.default_rng(zlib.crc32(seed.encode()))
        self.dtype = dtype_of(dtype)
        self.fill = fill

    def data(self, *shape):
        """Values as the fill says: images, or gradients of them."""
        values = self.generator.standard_normal(shape)
        if self.fill == "ties":
            values = self.generator.integers(-2, 2, shape).astype("float64")
            values.flat[::7], values.flat[3::11], values.flat[5::13] = numpy.nan, -numpy.inf, numpy.inf
            values[:1, :1] = -numpy.inf  # a plane without a maximum above its padding
        elif self.fill == "special":
            values.flat[::29], values.flat[17::41] = numpy.nan, numpy.inf
        elif self.fill == "shifted":
            values = 1000 + values / 10
        return self._finish(values)

    def normal(self, *shape):
        """Standard normal values: filters, biases, gradients."""
        return self._finish(self.generator.standard_normal(shape))

    def positive(self, *shape):
        """Values from 0.1 to 2, float64 for float64 and float32 otherwise: variances."""
        return self.generator.uniform(0.1, 2, shape).astype(accumulator(self.dtype))

    def coordinates(self, *shape):
        """Coordinates of points in and around an image, some of them on edges and centres."""
        drawn = self.generator.uniform(-1.4, 1.4, shape)
        drawn.flat[::3] = self.generator.integers(-6, 7, drawn.flat[::3].size) / 4
        if self.fill == "special":
            drawn.flat[::31], drawn.flat[13::29], drawn.flat[17::37] = numpy.nan, numpy.inf, -numpy.inf
        return self._finish(drawn)

    def indices(self, planes, *shape):
        """int64 positions below `planes`, most of them more than once."""
        drawn = self.generator.integers(0, max(planes, 1), shape)
        return numpy.ascontiguousarray(self._repeated(drawn))

    def statistics(self, x):
        """Mean and variance of x [N, C, *size] from the reference."""
        return reference.batch_norm_statistics(x)

    def group_statistics(self, x, groups):
        """Mean and variance [N, groups] of x [N, C, *size] from the reference."""
        return reference.group_norm_forward(x, groups, None, None, 0.0)[1:]

    def _finish(self, values):
        return numpy.ascontiguousarray(self._repeated(values).astype(self.dtype))

    def _repeated(self, values):
        if self.fill != "repeated" or not values.size:
            return values
        return numpy.broadcast_to(values[..., :1], values.shape)


def dtypes():
    """Names of the dtypes that cases can have here; bfloat16 only where ml_dtypes is installed."""
    halves = ("float16", "bfloat16") if importlib.util.find_spec("ml_dtypes") else ("float16",)
    return ("float32", "float64", *halves)


def dtype_of(name):
    """The NumPy dtype of a name; bfloat16 is that of ml_dtypes."""
    if name == "bfloat16":
        import ml_dtypes  # an extra

        return numpy.dtype(ml_dtypes.bfloat16)
    return numpy.dtype(name)


def cross(operator, problem, make, work, fills=("normal",), storages=(), quick=False):
    """The cases of one problem: every dtype, contiguous and channels-last and what else is asked for.

    Args:
        operator, problem, make, work: See Case.
        quick: Whether the problem belongs to the quick selection, in float32 and float64, and in the halves too
            where it has further storages.
        fills: All but the first are drawn with the contiguous and channels-last storages only.
        storages: Further storages; "repeated" inputs come with "broadcast".

    Returns:
        A generator of Cases, those of one problem, fill and dtype next to each other.
    """
    for dtype in dtypes():
        chosen = quick and (bool(storages) or dtype not in HALVES)
        for fill in fills:
            more = storages if fill == fills[0] else ()
            for storage in ("contiguous", "channels_last", *(s for s in more if s != "broadcast")):
                if storage == "byte_swapped" and dtype == "bfloat16":
                    continue  # ml_dtypes knows the native byte order only
                yield Case(operator, problem, dtype, storage, fill, work, chosen, make)
        if "broadcast" in storages:
            yield Case(operator, problem, dtype, "broadcast", "repeated", work, chosen, make)


def by(numbers):
    """Sizes as text, such as 3x3."""
    return "x".join(str(n) for n in numbers)


@functools.lru_cache(maxsize=2)  # the storages of one problem follow each other
def _solution(case):
    """(results, scales, lengths) of the reference on the float64 values of a case."""
    values = case.values()
    wide = values if case.operator in BY_DTYPE else [_map_float(v, lambda a: a.astype("float64")) for v in values]
    expected = tuple(
        _map_float(e, lambda a: a.astype("float64")) for e in _tuple(getattr(reference, case.operator)(*wide))
    )
    lengths = _LENGTHS.get(case.operator, _one)(*wide)
    if case.exact:
        scales = (numpy.zeros(()),) * len(expected)
    else:
        scales = _SCALES.get(case.operator, _of_absolutes(case.operator))(case, wide)
    lengths = lengths if isinstance(lengths, tuple) else (lengths,) * len(expected)
    return expected, scales, lengths


def _tuple(value):
    return value if isinstance(value, tuple) else (value,)


def _map_float(value, function):
    """function(value) for a floating array, value itself for indices, windows and numbers."""
    return function(value) if isinstance(value, numpy.ndarray) and value.dtype.kind not in "iu" else value


def _of_absolutes(operator):
    """The scale of an operator that sums products: its own result for absolute values."""

    def scales(case, wide):
        results = getattr(reference, operator)(*(_map_float(v, numpy.abs) for v in wide))
        return tuple(abs(r) for r in _tuple(results))  # a divisor may be negative

    return scales


def _statistics_scales(case, wide):
    """The mean sums x / m. The variance sums squares of differences from that mean, and a mean that is off by d
    adds d * d to it; there is no room for the cancellation of mean(x * x) - mean * mean."""
    (x,) = wide
    mean_scale, _ = reference.batch_norm_statistics(abs(x))
    _, variance = reference.batch_norm_statistics(x)
    return mean_scale, variance + _of_mean(case, mean_scale, _values_a_channel(x))


def _of_mean(case, mean_scale, length):
    """What the error of a mean of so many values adds to the variance, in units of the error of a sum."""
    acc_eps = float(numpy.finfo(accumulator(dtype_of(case.dtype))).eps)
    return math.sqrt(max(length, 1)) * acc_eps * mean_scale**2


def _normalise_scales(case, wide):
    """(|x| + |mean|) / sqrt(variance + eps) * |w| + |b| + |residual|: nothing is summed but these."""
    x, mean, variance, w, b, eps, *fused = wide
    w, b = (None if a is None else abs(a) for a in (w, b))
    residual = abs(fused[0]) if fused and fused[0] is not None else None
    return (reference.batch_norm_forward(abs(x), -abs(mean), variance, w, b, eps, residual),)


def _normalise_grad_scales(case, wide):
    dy, x, mean, variance, w, eps, *y = wide
    with numpy.errstate(over="ignore", invalid="ignore"):
        if not y:
            return batch_norm_scales(dy, x, mean, variance, w, None, eps)[1:]
        dy = numpy.where(y[0] <= 0, 0, dy)
        return (*batch_norm_scales(dy, x, mean, variance, w, None, eps)[1:], abs(dy))


def _group_scales(case, wide):
    x, groups, w, b, eps = wide
    grouped = x.reshape(x.shape[0], groups, -1) if x.size else numpy.zeros((x.shape[0], groups, 1))
    with numpy.errstate(over="ignore", invalid="ignore"):
        mean_scale, variance = abs(grouped).mean(axis=2), grouped.var(axis=2)
        y, *_ = group_norm_scales(x, x, grouped.mean(axis=2), variance, groups, w, b, eps)
    return y, mean_scale, variance + _of_mean(case, mean_scale, grouped.shape[2])


def _group_grad_scales(case, wide):
    dy, x, mean, variance, groups, w, eps = wide
    with numpy.errstate(over="ignore", invalid="ignore"):
        return group_norm_scales(dy, x, mean, variance, groups, w, None, eps)[1:]


def _conv_forward_scales(case, wide):
    """Those of the sums, as an activation has slopes of little more than 1; where it makes an infinity finite, which
    is relu of -inf, nothing is rounded."""
    x, w, b, window, *activation = wide
    scale = reference.conv_forward(abs(x), abs(w), None if b is None else abs(b), window)
    if activation:
        exact = ~numpy.isfinite(scale) & numpy.isfinite(reference.conv_forward(*wide))
        scale = numpy.where(exact, 0, scale)
    return (scale,)


def _cross_entropy_scales(case, wide):
    return cross_entropy_scales(*wide)[:2]


def _cross_entropy_grad_scales(case, wide):
    dloss, x, _, *rest = wide
    return cross_entropy_scales(x, *rest, dloss)[2:]


def _of(function):
    """A scale that needs no more than the arguments."""
    return lambda case, wide: (function(*wide),)


_SCALES = {
    **scales_grid.SCALES,
    "conv_forward": _conv_forward_scales,
    "cross_entropy_forward": _cross_entropy_scales,
    "cross_entropy_grad": _cross_entropy_grad_scales,
    "batch_norm_statistics": _statistics_scales,
    "batch_norm_forward": _normalise_scales,
    "batch_norm_grad": _normalise_grad_scales,
    "group_norm_forward": _group_scales,
    "group_norm_grad": _group_grad_scales,
    "resize_forward": _of(scales.resize_forward_scale),
    "resize_input_grad": _of(scales.resize_input_grad_scale),
    "unary_forward": _of(scales.unary_forward_scale),
    "unary_input_grad": _of(scales.unary_input_grad_scale),
    "binary_forward": _of(scales.binary_forward_scale),
    "binary_sum": _of(scales.binary_sum_scale),
    "binary_grad": _of(scales.binary_grad_scale),
    "softmax_forward": _of(scales.softmax_forward_scale),
    "softmax_input_grad": _of(scales.softmax_input_grad_scale),
    "glu_forward": _of(scales.glu_forward_scale),
    "glu_input_grad": _of(scales.glu_input_grad_scale),
    "prelu_forward": _of(scales.prelu_forward_scale),
    "prelu_grad": scales.prelu_grad_scales,
    "normalize_forward": _of(scales.normalize_forward_scale),
    "normalize_grad": _of(scales.normalize_grad_scale),
    "batch_norm_weight_grad": scales.batch_norm_weight_grad_scales,
    "response_norm_forward": _of(scales.response_norm_forward_scale),
    "response_norm_input_grad": _of(scales.response_norm_input_grad_scale),
    "rms_norm_forward": scales.rms_norm_forward_scales,
    "rms_norm_input_grad": _of(scales.rms_norm_input_grad_scale),
    "rms_norm_weight_grad": _of(scales.rms_norm_weight_grad_scale),
    **{operator: _of(scale) for operator, scale in scales_roi.SCALES.items()},
}


def _one(*arguments):
    return 1


def _conv_forward_length(x, w, b, window, activation=None):
    return math.prod(window.weight_shape[1:]) + (b is not None)


def _conv_input_grad_length(dy, w, b, window):
    return window.filters // window.groups * math.prod(window.kernel) + (b is not None)


def _conv_weight_grad_length(x, dy, window):
    return window.batch * math.prod(window.output)


def _conv_bias_grad_length(dy):
    return _values_a_channel(dy)


def _avg_pool_length(x, window, count_include_pad, divisor_override):
    return math.prod(window.kernel)


def _avg_pool_input_grad_length(dy, window, count_include_pad, divisor_override):
    return math.prod(-(-k // s) for k, s in zip(window.kernel, window.stride, strict=True))


def _scatter_length(dy, indices, size):
    """The most equal indices in one plane."""
    planes = indices.reshape(math.prod(indices.shape[:2]), math.prod(indices.shape[2:]))
    return max((int(numpy.bincount(plane).max(initial=0)) for plane in planes), default=0)


def _max_pool_input_grad_length(dy, indices, window):
    return _scatter_length(dy, in_plane(indices, window), window.size)


def _batch_norm_length(x, *rest):
    return _values_a_channel(x)


def _group_norm_length(x, groups, *rest):
    return x[:1].size // groups


def _group_norm_grad_length(dy, x, mean, variance, groups, *rest):
    """Values of a group for dx, values of a channel for dw and db."""
    return x[:1].size // groups, _values_a_channel(x), _values_a_channel(x)


def _matmul_length(a, b):
    return a.shape[-1]


def _values_a_channel(x):
    return x.shape[0] * math.prod(x.shape[2:])


_LENGTHS = {
    "binary_sum": lambda a, *rest: a.size,
    **scales_grid.LENGTHS,
    **scales_roi.LENGTHS,
    "softmax_forward": lambda x, axis, log: x.shape[axis],
    "softmax_input_grad": lambda dy, y, axis, log: y.shape[axis],
    "normalize_forward": lambda x, axis, eps: x.shape[axis],
    "normalize_grad": lambda dy, x, axis, eps: x.shape[axis],
    "batch_norm_weight_grad": lambda dy, x, *rest: _values_a_channel(x),
    "response_norm_forward": lambda x, size, *rest: size,
    "response_norm_input_grad": lambda dy, x, size, *rest: 2 * size,
    "rms_norm_forward": lambda x, *rest: x.shape[1],
    "rms_norm_input_grad": lambda dy, x, *rest: x.shape[1],
    "rms_norm_weight_grad": lambda dy, x, *rest: x.shape[0],
    "prelu_grad": lambda dy, x, w: (1, x.size // max(w.size, 1)),
    "cross_entropy_forward": lambda x, *rest: x.shape[1],
    "cross_entropy_grad": lambda dloss, x, *rest: x.shape[1],
    "conv_forward": _conv_forward_length,
    "conv_input_grad": _conv_input_grad_length,
    "conv_weight_grad": _conv_weight_grad_length,
    "conv_bias_grad": _conv_bias_grad_length,
    "avg_pool_forward": _avg_pool_length,
    "avg_pool_input_grad": _avg_pool_input_grad_length,
    "adaptive_avg_pool_forward": lengths.adaptive_length,
    "adaptive_avg_pool_input_grad": lengths.adaptive_input_grad_length,
    "max_pool_input_grad": _max_pool_input_grad_length,
    "adaptive_max_pool_input_grad": _scatter_length,
    "pool_scatter": _scatter_length,
    "batch_norm_statistics": _batch_norm_length,
    "batch_norm_grad": _batch_norm_length,
    "group_norm_forward": _group_norm_length,
    "group_norm_grad": _group_norm_grad_length,
    "matmul": _matmul_length,
    "resize_forward": lengths.resize_forward_length,
    "resize_input_grad": lengths.resize_input_grad_length,
}
