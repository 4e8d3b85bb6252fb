"""Attention: PyTorch's values and gradients with every mask, heads that share keys, dropout, refusals."""

import numpy as np
import pytest
import torch.nn.functional as T
from torch.nn.attention import SDPBackend, sdpa_kernel

import fastconv.functional as F
from fastconv.autograd import grad
from fastconv.creation import tensor
from fastconv.errors import DTypeError, ShapeError
from fastconv.random import Generator
from tests.gradients import check_gradients
from tests.witness import check_like_torch


def normal(*shape, seed=0):
    return np.asarray(np.random.default_rng(seed).standard_normal(shape))


def operands(lead=(2, 3), length=4, keys=5, size=6, values=7):
    return normal(*lead, length, size), normal(*lead, keys, size, seed=1), normal(*lead, keys, values, seed=2)


def theirs(*arrays, **options):
    with sdpa_kernel(SDPBackend.MATH):  # the others have no gradient of a mask
        return T.scaled_dot_product_attention(*arrays, **options)


MASK = np.random.default_rng(3).random((4, 5)) > 0.4
DEAD = MASK & (np.arange(4) != 1)[:, None]


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)], ids=str)
@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.3}, {"scale": -1.0}, {"scale": 0.0}], ids=str)
def test_values_and_gradients_are_pytorchs(lead, options):
    check_like_torch(
        lambda *a: F.scaled_dot_product_attention(*a, **options), lambda *a: theirs(*a, **options),
        *operands(lead), rtol=1e-10, atol=1e-12,
    )  # fmt: skip
    check_gradients(lambda *a: F.scaled_dot_product_attention(*a, **options), *operands(lead))


@pytest.mark.parametrize("mask", [
    MASK, DEAD, np.stack([MASK, DEAD])[:, None], normal(4, 5), normal(2, 1, 1, 5),
    np.where(DEAD, normal(4, 5), -np.inf),
], ids=["bool", "a query without keys", "of a sample", "added", "of keys", "infinite"])  # fmt: skip
def test_masks_are_pytorchs(mask):
    check_like_torch(
        lambda *a: F.scaled_dot_product_attention(*a), lambda *a: theirs(*a), *operands(), mask, rtol=1e-10, atol=1e-12
    )
    if np.isfinite(mask).all():
        check_gradients(lambda *a: F.scaled_dot_product_attention(*a, mask), *operands())


@pytest.mark.parametrize("heads, shared", [(6, 2), (4, 4), (3, 1)])
def test_heads_share_keys_and_values(heads, shared):
    q = normal(2, heads, 3, 4)
    k, v = normal(2, shared, 5, 4, seed=1), normal(2, shared, 5, 3, seed=2)
    check_like_torch(
        lambda *a: F.scaled_dot_product_attention(*a, enable_gqa=True), lambda *a: theirs(*a, enable_gqa=True),
        q, k, v, rtol=1e-10, atol=1e-12,
    )  # fmt: skip


@pytest.mark.parametrize("lead, sizes", [((), (0, 2, 4)), ((), (3, 0, 4)), ((), (3, 2, 0)), ((0, 2), (3, 2, 4))])
def test_of_nothing(lead, sizes):
    length, keys, size = sizes
    check_like_torch(F.scaled_dot_product_attention, theirs, *operands(lead, length, keys, size), rtol=1e-12)


def test_leading_axes_broadcast():
    arrays = normal(4, 1, 3, 6), normal(1, 2, 5, 6, seed=1), normal(4, 2, 5, 6, seed=2)
    check_like_torch(F.scaled_dot_product_attention, theirs, *arrays, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_narrow_dtypes_are_rounded_once(dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    arrays = [a.astype(dtype) for a in operands()]
    y = F.scaled_dot_product_attention(*arrays, normal(4, 5).astype("float32"))
    assert y.dtype == arrays[0].dtype
    exact = F.scaled_dot_product_attention(
        *[a.astype("float64") for a in arrays], normal(4, 5).astype("f4").astype("f8")
    )
    eps = max(float(ml_dtypes.finfo(dtype).eps), 1e-5)
    np.testing.assert_allclose(y.astype("float64"), exact, rtol=eps, atol=1e-5)


def test_dropout_drops_weights_and_keeps_the_mean():
    q, k = np.zeros((300, 2, 4)), np.zeros((300, 50, 4))
    v = np.ones((300, 50, 3))
    y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.4, generator=Generator(1))
    assert abs(y.mean() - 1) < 0.02
    assert y.std() > 0.05
    again = F.scaled_dot_product_attention(q, k, v, dropout_p=0.4, generator=Generator(1))
    np.testing.assert_array_equal(y, again)
    assert not F.scaled_dot_product_attention(q, k, v, dropout_p=1.0).any()


def test_nan_reaches_the_queries_that_see_it_alone():
    q, k, v = operands((), 3, 4)
    q[1, 0] = np.nan
    leaf = tensor(q, requires_grad=True)
    y = F.scaled_dot_product_attention(leaf, k, v)
    np.testing.assert_array_equal(np.isnan(y.data).any(1), [False, True, False])
    assert np.isfinite(grad(y[0].sum(), leaf)[0].data[0]).all()


@pytest.mark.parametrize(
    "change, error, message",
    [
        (dict(query=normal(6)), ShapeError, "query: got .* expected at least 2 axes"),
        (dict(key=normal(2, 3, 5, 5)), ShapeError, "key"),
        (dict(value=normal(2, 3, 4, 6)), ShapeError, "value"),
        (dict(key=operands()[1].astype("f4")), DTypeError, "key: got float32"),
        (dict(query=operands()[0].astype(int)), DTypeError, "query: got int64"),
        (dict(attn_mask=MASK, is_causal=True), ShapeError, "attn_mask"),
        (dict(attn_mask=MASK.astype(int)), DTypeError, "attn_mask: got int64"),
        (dict(attn_mask=MASK[:, :4]), ShapeError, "attn_mask"),
        (dict(attn_mask=np.ones((2, 2, 3, 4, 5), bool)), ShapeError, "attn_mask"),
        (dict(dropout_p=2.0), ShapeError, "dropout: p: got 2.0"),
        (dict(scale="a"), DTypeError, "scale"),
        (dict(key=normal(2, 2, 5, 6), enable_gqa=True), ShapeError, "key"),
        (dict(key=normal(5, 5, 6), value=normal(5, 5, 6)), ShapeError, "matmul"),
    ],
)
def test_refusals(change, error, message):
    arguments = dict(zip(("query", "key", "value"), operands(), strict=True))
    with pytest.raises(error, match=message):
        F.scaled_dot_product_attention(**{**arguments, **change})


def test_arguments_after_is_causal_are_named():
    with pytest.raises(TypeError):
        F.scaled_dot_product_attention(*operands(), None, 0.0, False, 1.0)
