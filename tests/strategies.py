"""Random calls of every operator family, for hypothesis: most of them valid, some at the edge, some nonsense.

A strategy draws a Call: the name that both libraries have, and arguments in which arrays are NumPy's. Sizes are small
and odd, so that thousands of calls take seconds; values come from a seeded generator, which shrinks to one number.
"""

import types
from typing import NamedTuple

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st


class Call(NamedTuple):
    """A call of a function that fastconv.functional and torch.nn.functional both have.

    Attributes:
        name: Of the function.
        args, kwargs: Its arguments; arrays are NumPy's. A gradient is asked of the floating ones in args.
        constants: Which of args no gradient is asked of; they may be changed in place.
    """

    name: str
    args: tuple
    kwargs: dict = types.MappingProxyType({})
    constants: tuple = ()

    def __repr__(self):
        words = [*map(_words, self.args), *(f"{key}={_words(value)}" for key, value in self.kwargs.items())]
        return f"{self.name}({', '.join(words)})"


def _words(value):
    return f"{list(value.shape)} {value.dtype}" if isinstance(value, np.ndarray) else repr(value)


@st.composite
def values(draw, shape, dtype="float64", kinds=("normal", "ties")):
    """An array of normal numbers, of few different integers, or with infinities and NaN among them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    kind = draw(st.sampled_from(kinds))
    array = np.asarray(rng.standard_normal(shape))
    if kind == "positive":
        array = np.abs(array) + 0.05
    elif kind == "unit":
        array = rng.uniform(0.02, 0.98, shape)
    elif kind == "ties":
        array = np.round(array)
    elif kind == "special":
        special = np.array([np.nan, np.inf, -np.inf])[rng.integers(0, 3, shape)]
        array = np.where(rng.random(shape) < 0.15, special, array)
    return np.asarray(array, dtype)


def rarely(common, rare, odds=20):
    """A value of `common`, and once in so many times one of `rare`."""
    return st.integers(0, odds - 1).flatmap(lambda n: rare if n == odds - 1 else common)


def sizes(rank, low=1, high=7):
    return rarely(st.tuples(*[st.integers(low, high)] * rank), st.tuples(*[st.integers(0, 2)] * rank), 30)


def _per_axis(rank, low, high, nonsense=(-1, 0)):
    """An int, or one an axis; now and then a nonsensical one, or the wrong number of them."""
    number = rarely(st.integers(low, high), st.sampled_from(nonsense), 40)
    return rarely(st.one_of(number, st.tuples(*[number] * rank)), st.tuples(*[st.integers(low, high)] * (rank + 1)), 60)


def _leading(draw, channels):
    """Axes before the spatial ones: a batch and channels, or the channels alone."""
    batch = draw(st.sampled_from([None, 0, 1, 2, 2, 2]))
    return (channels,) if batch is None else (batch, channels)


dtypes = st.sampled_from(["float64", "float64", "float64", "float32"])


@st.composite
def conv(draw):
    """Convolutions and transposed convolutions."""
    rank = draw(st.integers(1, 3))
    transposed = draw(st.booleans())
    dtype = draw(dtypes)
    groups = draw(rarely(st.integers(1, 3), st.just(0), 60))
    inputs, outputs = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    count = max(groups, 1)
    channels = draw(rarely(st.just(inputs * count), st.integers(0, 6)))
    kernel = draw(sizes(rank, 1, 3))
    x = draw(values((*_leading(draw, channels), *draw(sizes(rank))), dtype))
    shape = (channels, outputs) if transposed else (outputs * count, inputs)
    w = draw(values((*shape, *kernel), draw(rarely(st.just(dtype), dtypes, 40))))
    length = draw(rarely(st.just(outputs * count), st.integers(0, 5), 30))
    b = draw(st.one_of(st.none(), values((length,), dtype)))
    # A dilation of 0 is refused by some of PyTorch's paths for transposed convolutions and not by others.
    stride, dilation = draw(_per_axis(rank, 1, 3)), draw(_per_axis(rank, 1, 2, nonsense=(-1,)))
    padding = draw(_per_axis(rank, 0, 2, nonsense=(-1, 5)))
    if transposed:
        extra = draw(_per_axis(rank, 0, 1, nonsense=(-1, 2)))
        return Call(f"conv_transpose{rank}d", (x, w, b, stride, padding, extra, groups, dilation))
    padding = draw(rarely(st.just(padding), st.sampled_from(["same", "valid", "full"]), 4))
    return Call(f"conv{rank}d", (x, w, b, stride, padding, dilation, groups))


@st.composite
def pool(draw):
    """Windowed and adaptive pooling."""
    rank = draw(st.integers(1, 3))
    kind = draw(st.sampled_from(["max", "avg", "lp", "adaptive_max", "adaptive_avg"]))
    kinds = ("normal", "ties", "special") if "max" in kind else ("positive",) if kind == "lp" else ("normal", "ties")
    x = draw(values((*_leading(draw, draw(st.integers(1, 3))), *draw(sizes(rank))), draw(dtypes), kinds))
    if kind.startswith("adaptive"):
        output = draw(rarely(st.integers(1, 5), st.sampled_from([-1, 0]), 20))
        lengths = st.integers(0, 5) if rank == 1 else st.integers(0, 5) | st.none()  # PyTorch has no None in 1-D
        output = draw(st.one_of(st.just(output), st.tuples(*[lengths] * rank)))
        kwargs = {"return_indices": True} if kind == "adaptive_max" and draw(st.booleans()) else {}
        return Call(f"{kind}_pool{rank}d", (x, output), kwargs)
    kernel = draw(_per_axis(rank, 1, 3))
    stride = draw(st.one_of(st.none(), _per_axis(rank, 1, 3)))
    ceil = {"ceil_mode": draw(st.booleans())}
    if kind == "lp":
        return Call(f"lp_pool{rank}d", (x, draw(st.sampled_from([1.0, 2.0, 3.0, 2])), kernel, stride), ceil)
    padding = draw(_per_axis(rank, 0, 1, nonsense=(-1, 2)))
    if kind == "max":
        dilation = draw(_per_axis(rank, 1, 2))
        return Call(
            f"max_pool{rank}d", (x, kernel, stride, padding, dilation), {**ceil, "return_indices": draw(st.booleans())}
        )
    kwargs = {**ceil, "count_include_pad": draw(st.booleans())}
    if rank > 1:
        kwargs["divisor_override"] = draw(st.one_of(st.none(), st.integers(-2, 5)))
    return Call(f"avg_pool{rank}d", (x, kernel, stride, padding), kwargs)


@st.composite
def unpool(draw):
    """Inverses of max pooling, and pooling whose windows are drawn."""
    rank = draw(st.integers(1, 3))
    leading = _leading(draw, draw(st.integers(1, 3)))
    if rank > 1 and draw(st.booleans()):
        size = draw(sizes(rank, 3, 7))
        x = draw(values((*leading, *size), draw(dtypes), ("normal", "ties", "special")))
        kernel = draw(st.one_of(st.integers(1, 3), st.tuples(*[st.integers(1, 3)] * rank)))
        batch = leading[0] if len(leading) == 2 else 1
        samples = draw(values((batch, leading[-1], rank), x.dtype, ("unit",)))
        output = draw(st.tuples(*[rarely(st.integers(1, 3), st.integers(-1, 9))] * rank))
        kwargs = dict(output_size=output, _random_samples=samples, return_indices=draw(st.booleans()))
        if draw(st.booleans()):
            ratio = rarely(st.floats(0.3, 0.9), st.sampled_from([0.0, 1.0, 1.5]))
            kwargs |= {"output_size": None, "output_ratio": draw(st.tuples(*[ratio] * rank))}
        return Call(f"fractional_max_pool{rank}d", (x, kernel), kwargs)
    size = draw(st.tuples(*[st.integers(1, 3)] * rank))
    numbers = st.one_of(st.integers(1, 3), st.tuples(*[st.integers(1, 3)] * rank))  # PyTorch checks none of them
    kernel, stride, padding = draw(numbers), draw(st.one_of(st.none(), numbers)), draw(st.integers(0, 1))
    x = draw(values((*leading, *size), draw(dtypes)))
    # Different positions: which of two equal ones counts is nobody's promise.
    planes = int(np.prod(leading))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    count = int(np.prod(size))
    indices = np.array([rng.permutation(count + draw(st.integers(0, 4)))[:count] for _ in range(planes)], "int64")
    return Call(f"max_unpool{rank}d", (x, indices.reshape(x.shape), kernel, stride, padding))


@st.composite
def norm(draw):
    """Normalisation, and distances."""
    name = draw(
        st.sampled_from([
            "batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm", "local_response_norm", "normalize",
            "cosine_similarity", "pairwise_distance",
        ])
    )  # fmt: skip
    dtype = draw(dtypes)
    rank = draw(st.integers(0 if name == "batch_norm" else 1, 3))
    channels = draw(st.integers(1, 6))
    shape = (draw(st.sampled_from([0, 1, 2, 3])), channels, *draw(sizes(rank, 1, 4)))
    x = draw(values(shape, dtype))
    # Not the usual 1e-5: where a gradient cancels to 0, what is left of it is rounding, divided by the root of eps.
    eps = draw(st.sampled_from([1e-2, 0.1, 1.0]))
    length = draw(rarely(st.just(channels), st.integers(0, 6), 25))
    scale = st.one_of(st.none(), values((length,), dtype))
    if name in ("batch_norm", "instance_norm"):
        mean, var = draw(st.one_of(st.tuples(values((length,), dtype), values((length,), dtype, ("positive",))),
                                   st.just((None, None))))  # fmt: skip
        flag = draw(st.booleans())
        momentum = draw(st.sampled_from([0.0, 0.1, 1.0]))
        return Call(name, (x, mean, var, draw(scale), draw(scale), flag, momentum, eps), constants=(1, 2))
    if name == "group_norm":
        w, b = draw(scale), draw(scale)
        b = None if w is None else b  # PyTorch cannot differentiate a bias without a weight
        return Call(name, (x, draw(rarely(st.integers(1, 3), st.integers(-1, 7))), w, b, eps))
    if name in ("layer_norm", "rms_norm"):
        axes = draw(st.integers(1, x.ndim))
        normalized = draw(rarely(st.just(x.shape[-axes:]), st.sampled_from([(), (3, 5), (*x.shape, 1)]), 25))
        scale = st.one_of(st.none(), values(draw(rarely(st.just(normalized), st.just((2,)), 30)), dtype))
        if name == "rms_norm":
            return Call(name, (x, normalized, draw(scale), draw(st.sampled_from([None, eps]))))
        return Call(name, (x, normalized, draw(scale), draw(scale), eps))
    if name == "local_response_norm":
        size = draw(rarely(st.integers(1, 5), st.sampled_from([0, -1]), 30))
        return Call(name, (x, size, draw(st.floats(1e-4, 0.5)), draw(st.floats(0.3, 1)), draw(st.floats(0.5, 2))))
    axis = draw(rarely(st.integers(-x.ndim, x.ndim - 1), st.sampled_from([-7, 6]), 30))
    if name == "normalize":
        return Call(name, (x, draw(st.sampled_from([1.0, 2.0, 3.0, float("inf")])), axis, 0.1))
    other = draw(values(draw(st.sampled_from([shape, shape[-1:], (1, *shape[1:])])), dtype))
    if name == "cosine_similarity":
        return Call(name, (x, other, axis, eps + 0.1))
    return Call(name, (x, other, draw(st.sampled_from([1.0, 2.0, 3.0])), 1e-6, draw(st.booleans())))


@st.composite
def resize(draw):
    """Interpolation."""
    rank = draw(st.integers(1, 3))
    fitting = {1: ["linear"], 2: ["bilinear", "bicubic", "lanczos"], 3: ["trilinear"]}[rank]
    anything = ["nearest", "nearest-exact", "linear", "bilinear", "bicubic", "trilinear", "area", "lanczos", "cubic"]
    mode = draw(rarely(st.sampled_from(["nearest", "nearest-exact", "area", *fitting * 2]),
                        st.sampled_from(anything), 12))  # fmt: skip
    size = draw(sizes(rank, 1, 9))
    x = draw(values((draw(st.integers(0, 2)), draw(st.integers(1, 3)), *size), draw(dtypes)))
    kwargs = {"mode": mode}
    if draw(rarely(st.booleans(), st.none(), 40)):
        kwargs["size"] = draw(_per_axis(rank, 1, 12))
    else:
        factor = rarely(st.floats(0.2, 3.5), st.sampled_from([0.0, -1.0, 0.5, 2.0]), 10)
        kwargs["scale_factor"] = draw(st.one_of(factor, st.tuples(*[factor] * rank)))
        kwargs["recompute_scale_factor"] = draw(st.sampled_from([None, False, True]))
    linear = mode.endswith("linear") or mode == "bicubic"
    if draw(rarely(st.just(linear), st.just(not linear), 20)):
        kwargs["align_corners"] = draw(st.sampled_from([None, False, True]))
    if draw(rarely(st.just(mode in ("bilinear", "bicubic", "lanczos")), st.just(True), 20)):
        kwargs["antialias"] = draw(st.booleans())
    if kwargs.get("antialias"):  # PyTorch weighs all rows of a single column as the first
        width, factor = (np.ravel(kwargs.get(k, 1))[-1] for k in ("size", "scale_factor"))
        assume((width if "size" in kwargs else size[-1] * factor) >= 2)
    return Call("interpolate", (x,), kwargs)


@st.composite
def pad(draw):
    """Padding, and its being cut off."""
    mode = draw(st.sampled_from(["constant", "reflect", "replicate", "circular"]))
    ndim = draw(st.integers(1, 5))
    x = draw(values(draw(sizes(ndim, 1, 5)), draw(dtypes)))
    axes = draw(st.integers(0, ndim)) if mode == "constant" else draw(st.integers(1, 3))
    low = draw(st.sampled_from([0, 0, -2]))
    numbers = st.lists(st.integers(low, 4), min_size=2 * axes, max_size=2 * axes)
    padding = draw(rarely(numbers, st.lists(st.integers(-1, 2), max_size=7), 25))
    if mode == "circular":  # what PyTorch wraps around beyond what is left was never written
        for size, before, after in zip(x.shape[::-1], padding[::2], padding[1::2], strict=False):
            least, most = sorted((before, after))
            assume(least >= 0 or most <= size + least + min(most, 0))
    value = draw(st.sampled_from([None, None, 0.0, 2.5])) if mode == "constant" else None
    return Call("pad", (x, tuple(padding), mode, value))


@st.composite
def fold(draw):
    """Patches of images, and images of patches."""
    dtype = draw(dtypes)
    kernel, dilation = draw(_per_axis(2, 1, 3)), draw(_per_axis(2, 1, 2))
    padding, stride = draw(_per_axis(2, 0, 2)), draw(_per_axis(2, 1, 3))
    if draw(st.booleans()):
        x = draw(values((*_leading(draw, draw(st.integers(1, 3))), *draw(sizes(2))), dtype))
        return Call("unfold", (x, kernel, dilation, padding, stride))
    size = draw(sizes(2))
    pairs = [p if isinstance(p, tuple) else (p, p) for p in (kernel, dilation, padding, stride)]
    positions = [
        max((n + 2 * p - d * (k - 1) - 1) // max(s, 1) + 1, 0)
        for n, k, d, p, s in zip(size, *[q[:2] for q in pairs], strict=False)
    ]
    count = draw(rarely(st.just(int(np.prod(positions))), st.integers(0, 9), 15))
    channels = draw(st.integers(1, 2)) * int(abs(np.prod(pairs[0])))
    channels = draw(rarely(st.just(channels), st.integers(0, 9), 20))
    x = draw(values((*_leading(draw, channels), count), dtype))
    return Call("fold", (x, size, kernel, dilation, padding, stride))


@st.composite
def shuffle(draw):
    """Channels into space, space into channels, and channels among themselves."""
    name = draw(st.sampled_from(["pixel_shuffle", "pixel_unshuffle", "channel_shuffle"]))
    factor = draw(rarely(st.integers(1, 3), st.sampled_from([0, -1]), 20))
    # PyTorch gives an empty array back as it is, whatever the factor.
    leading = draw(st.sampled_from([(), (2,), (2, 1)] if name == "pixel_unshuffle" else [(), (2,), (0,), (2, 1)]))
    channels = draw(st.integers(1, 3)) * (factor * factor if name == "pixel_shuffle" else max(factor, 1))
    size = draw(st.tuples(*[st.integers(1, 4)] * 2))
    if name == "pixel_unshuffle" and factor > 0:
        size = tuple(n * factor for n in size)
    shape = draw(rarely(st.just((*leading, max(channels, 0), *size)), st.sampled_from([(4, 4), (1, 5, 3, 3)]), 20))
    return Call(name, (draw(values(shape, draw(dtypes))), factor))


@st.composite
def grid(draw):
    """Sampling at positions of a grid, and grids of affine maps."""
    rank, dtype = draw(st.integers(2, 3)), draw(dtypes)
    align = draw(st.sampled_from([False, True]))
    batch = draw(st.integers(1, 2))
    if draw(st.integers(0, 3)) == 0:
        size = (batch, 1, *draw(sizes(rank, 1, 5)))
        theta = draw(values((draw(rarely(st.just(batch), st.just(3), 20)), rank, rank + 1), dtype))
        return Call("affine_grid", (theta, size, align))
    x = draw(values((batch, draw(st.integers(1, 3)), *draw(sizes(rank, 1, 5))), dtype, ("normal",)))
    positions = draw(values((draw(rarely(st.just(batch), st.just(3), 30)), *draw(sizes(rank, 1, 4)),
                              draw(rarely(st.just(rank), st.just(1), 30))), dtype, ("normal",)))  # fmt: skip
    mode = draw(rarely(st.sampled_from(["bilinear", "nearest", "bicubic"]), st.just("linear"), 30))
    padding = draw(rarely(st.sampled_from(["zeros", "border", "reflection"]), st.just("reflect"), 30))
    return Call("grid_sample", (x, positions, mode, padding, align))


IMAGES = {
    "conv": conv, "pool": pool, "unpool": unpool, "norm": norm, "resize": resize, "pad": pad, "fold": fold,
    "shuffle": shuffle, "grid": grid,
}  # fmt: skip
