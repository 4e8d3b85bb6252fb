"""Random calls of activations, losses and products with weights, for hypothesis."""

import numpy as np
from hypothesis import strategies as st

from tests.strategies import Call, dtypes, rarely, sizes, values

ACTIVATIONS = {
    "relu": (), "relu6": (), "selu": (), "silu": (), "mish": (), "hardswish": (), "hardsigmoid": (), "softsign": (),
    "logsigmoid": (), "tanhshrink": (), "sigmoid": (), "tanh": (),
    "leaky_relu": (st.floats(-0.5, 1.5),), "elu": (st.floats(0.1, 2),), "celu": (st.floats(0.1, 2),),
    "gelu": (), "hardtanh": (st.floats(-2, 0), st.floats(0, 2)), "softplus": (st.floats(0.2, 3), st.floats(1, 30)),
    "softshrink": (st.floats(0, 1.5),), "hardshrink": (st.floats(0, 1.5),),
    "threshold": (st.floats(-1, 1), st.floats(-2, 2)),
}  # fmt: skip


@st.composite
def activation(draw):
    """Functions of one array, softmax among them."""
    shape = draw(st.lists(rarely(st.integers(1, 5), st.just(0), 30), max_size=4).map(tuple))
    x = draw(values(shape, draw(dtypes), ("normal", "ties", "special")))
    name = draw(st.sampled_from([*ACTIVATIONS, "softmax", "log_softmax", "softmin", "glu", "prelu"]))
    if name == "gelu":
        x = np.nan_to_num(x, nan=np.nan, posinf=9, neginf=-9)  # PyTorch's gelu of infinity is NaN in float32 alone
    if name in ACTIVATIONS:
        kwargs = {"approximate": draw(st.sampled_from(["none", "tanh", "erf"]))} if name == "gelu" else {}
        return Call(name, (x, *map(draw, ACTIVATIONS[name])), kwargs)
    axis = draw(rarely(st.integers(-max(x.ndim, 1), max(x.ndim, 1) - 1), st.sampled_from([-6, 5]), 25))
    if name == "glu":
        return Call(name, (x, axis))
    if name == "prelu":
        count = draw(st.sampled_from([1, x.shape[1] if x.ndim > 1 else 1, 2]))
        return Call(name, (x, draw(values((count,), x.dtype))))
    return Call(name, (x,), {"dim": axis})


_REDUCTIONS = rarely(st.sampled_from(["none", "mean", "sum"]), st.just("average"), 30)


@st.composite
def loss(draw):
    """Losses of predictions and targets of one shape."""
    dtype = draw(dtypes)
    shape = draw(st.lists(rarely(st.integers(1, 5), st.just(0), 40), max_size=4).map(tuple))
    name = draw(
        st.sampled_from([
            "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
            "binary_cross_entropy_with_logits", "kl_div", "poisson_nll_loss", "soft_margin_loss",
        ])
    )  # fmt: skip
    x = draw(values(shape, dtype, ("unit",) if name == "binary_cross_entropy" else ("normal", "ties")))
    positive = name.startswith("binary") or name in ("kl_div", "poisson_nll_loss")
    target = draw(values(draw(rarely(st.just(shape), st.just(shape[1:]), 30)), dtype,
                          ("unit",) if positive else ("normal",)))  # fmt: skip
    kwargs = {"reduction": draw(_REDUCTIONS)}
    if name in ("smooth_l1_loss", "huber_loss"):
        key = "beta" if name == "smooth_l1_loss" else "delta"
        kwargs[key] = draw(rarely(st.floats(0.2, 2), st.sampled_from([0.0, -1.0]), 20))
    elif name == "kl_div":
        kwargs |= {"log_target": draw(st.booleans())}
        kwargs["reduction"] = draw(st.sampled_from([kwargs["reduction"], "batchmean"]))
    elif name == "poisson_nll_loss":
        kwargs |= {"log_input": draw(st.booleans()), "full": draw(st.booleans()), "eps": 1e-6}
        if not kwargs["log_input"]:
            x = np.abs(x)
    elif name.startswith("binary"):
        kwargs["weight"] = draw(st.one_of(st.none(), values(shape, dtype, ("unit",))))
        if name.endswith("logits"):
            kwargs["pos_weight"] = draw(st.one_of(st.none(), values(shape[-1:], dtype, ("positive",))))
    return Call(name, (x, target), kwargs)


@st.composite
def classes(draw):
    """Losses of scores of classes."""
    dtype = draw(dtypes)
    count = draw(st.integers(1, 5))
    size = draw(sizes(draw(st.integers(0, 3)), 1, 3))
    batch = draw(st.sampled_from([None, 1, 2, 3])) if not size else draw(st.sampled_from([0, 1, 2, 3]))
    leading = () if batch is None else (batch,)
    x = draw(values((*leading, count, *size), dtype))
    ignored = draw(st.sampled_from([-100, 0, count - 1, count + 3]))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    target = np.asarray(rng.integers(0, count, (*leading, *size)), "int64")
    if draw(st.integers(0, 3)) == 0:
        target = np.where(rng.random(target.shape) < 0.5, ignored, target).astype("int64")
    if draw(st.integers(0, 30)) == 0:
        target = np.asarray(rng.integers(-2, count + 2, (*leading, *size)), "int64")
    weight = draw(st.one_of(st.none(), values((draw(rarely(st.just(count), st.just(2), 30)),), dtype, ("unit",))))
    kwargs = dict(weight=weight, ignore_index=ignored, reduction=draw(_REDUCTIONS))
    if draw(st.booleans()):
        return Call("nll_loss", (x, target), kwargs)
    kwargs["label_smoothing"] = draw(rarely(st.floats(0, 1), st.just(1.5), 30))
    if draw(st.integers(0, 2)) == 0:
        target = draw(values(x.shape, dtype, ("unit",)))
    return Call("cross_entropy", (x, target), kwargs)


@st.composite
def margin(draw):
    """Losses with a margin, of pairs, of triplets and of scores of classes."""
    dtype, batch, count = draw(dtypes), draw(st.integers(1, 3)), draw(st.integers(1, 5))
    name = draw(
        st.sampled_from([
            "margin_ranking_loss", "hinge_embedding_loss", "cosine_embedding_loss", "triplet_margin_loss",
            "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss", "gaussian_nll_loss",
        ])
    )  # fmt: skip
    shape = draw(st.sampled_from([(count,), (batch, count), (batch, count)]))
    other = draw(rarely(st.just(shape), st.sampled_from([(2,), (3, 4), (1, 1, 1)]), 30))
    x, second = draw(values(shape, dtype)), draw(values(other, dtype))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    signs = np.where(rng.random(shape) < 0.5, 1.0, -1.0).astype(dtype)
    kwargs = {"reduction": draw(_REDUCTIONS)}
    if name == "gaussian_nll_loss":
        variance = draw(values(draw(st.sampled_from([shape, (*shape[:-1], 1)])), dtype, ("positive",)))
        return Call(name, (x, second, variance), {**kwargs, "full": draw(st.booleans())})
    if name == "multilabel_soft_margin_loss":
        weight = draw(st.one_of(st.none(), values((count,), dtype, ("unit",))))
        return Call(name, (x, (signs > 0).astype(dtype)), {**kwargs, "weight": weight})
    if name == "multi_margin_loss":
        target = np.asarray(rng.integers(0, count, shape[:-1]), "int64")
        power = draw(rarely(st.sampled_from([1, 2]), st.just(3), 30))
        weight = draw(st.one_of(st.none(), values((count,), dtype, ("unit",))))
        return Call(name, (x, target, power, draw(st.floats(0.1, 2)), weight), kwargs, constants=(4,))
    if name == "multilabel_margin_loss":
        labels = np.array([rng.permutation(count) for _ in range(batch)], "int64")
        labels[rng.random(labels.shape) < 0.4] = -1
        return Call(name, (x, labels[0] if len(shape) == 1 else labels), kwargs)
    kwargs["margin"] = draw(st.floats(0, 1))
    if name == "hinge_embedding_loss":
        return Call(name, (x, signs), kwargs, constants=(1,))
    if name == "margin_ranking_loss":
        return Call(name, (x, second, signs), kwargs, constants=(2,))
    if name == "cosine_embedding_loss":
        return Call(name, (x, second, signs[..., 0]), kwargs, constants=(2,))
    kwargs |= {"p": draw(st.sampled_from([1.0, 2.0, 3.0])), "swap": draw(st.booleans())}
    return Call(name, (x, second, draw(values(shape, dtype))), kwargs)


@st.composite
def linear(draw):
    """Products with weights."""
    dtype = draw(dtypes)
    inputs, outputs = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    leading = draw(st.lists(st.integers(0, 3), max_size=3).map(tuple))
    fitting = draw(rarely(st.just(inputs), st.integers(0, 5), 20))
    b = draw(st.one_of(st.none(), values((draw(rarely(st.just(outputs), st.just(3), 25)),), dtype)))
    x = draw(values((*leading, inputs), dtype))
    if draw(st.booleans()):
        return Call("linear", (x, draw(values((outputs, fitting), dtype)), b))
    others = draw(st.integers(0, 3))
    second = draw(values((*draw(rarely(st.just(leading), st.just((2,)), 20)), others), dtype))
    return Call("bilinear", (x, second, draw(values((outputs, fitting, others), dtype)), b))


POINTWISE = {
    "activation": activation, "loss": loss, "classes": classes, "margin": margin, "linear": linear,
}  # fmt: skip
