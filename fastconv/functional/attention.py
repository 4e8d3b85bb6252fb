"""Attention: values averaged by how well their keys match a query.

Source: Vaswani et al., arXiv:1706.03762.
"""

import math

from fastconv import backend
from fastconv.arrays import check_float, check_same_dtype, describe
from fastconv.autograd import Tensor, raw
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.dropout import dropout
from fastconv.functional.elementwise import add, cast, masked, mul, where
from fastconv.functional.linear import matmul
from fastconv.functional.operands import accumulator, array, check_broadcast, is_number, number
from fastconv.functional.shape import broadcast_to, reshape, transpose, unsqueeze
from fastconv.functional.softmax import softmax

_NAME = "scaled_dot_product_attention"


def scaled_dot_product_attention(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None, enable_gqa=False, generator=None
):
    """softmax(scale * query @ key.T + mask) @ value, as torch.nn.functional.scaled_dot_product_attention.

    A composition of other functions: the scores of all pairs are held in memory.

    Args:
        query: [..., L, E].
        key: [..., S, E]; dtype of query.
        value: [..., S, V]; dtype of query. Leading axes broadcast.
        attn_mask: Broadcasts to [..., L, S]: bools, True where a key counts; or floats, float32 or of the dtype of
            query, that are added to the scores; or None.
        dropout_p: Probability that a weight is dropped.
        is_causal: Whether query i sees keys 0 to i alone; without attn_mask.
        scale: What products are multiplied with; None is 1 / sqrt(E).
        enable_gqa: Whether each head of key and value, axis -3, serves several of query.
        generator: fastconv.Generator that dropout draws from; None is the one that fastconv.manual_seed seeds.

    Returns:
        [..., L, V], dtype of query; a Tensor if an argument is one. A query that no key counts for gives 0.

    Raises:
        ShapeError: Shapes disagree, is_causal stands beside attn_mask, or dropout_p is no probability.
        DTypeError: Dtypes differ or are not floating, or an argument is no array or no number.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """
    q, k, v = array(_NAME, "query", query), array(_NAME, "key", key), array(_NAME, "value", value)
    check_float(_NAME, "query", q)
    for argument, x in (("query", q), ("key", k), ("value", v)):
        check_same_dtype(_NAME, argument, x, "query", q)
        if x.ndim < 2:
            raise ShapeError(_NAME, argument, list(x.shape), "at least 2 axes")
    if k.shape[-1] != q.shape[-1]:
        raise ShapeError(_NAME, "key", list(k.shape), f"[..., S, {q.shape[-1]}] for query {list(q.shape)}")
    if v.shape[-2] != k.shape[-2]:
        raise ShapeError(_NAME, "value", list(v.shape), f"[..., {k.shape[-2]}, V] for key {list(k.shape)}")
    if scale is not None and not is_number(scale):
        raise DTypeError(_NAME, "scale", describe(scale), "a number or None")
    backend.of(q, k, v)
    dtype, wide = q.dtype.newbyteorder("="), accumulator(q.dtype)
    operands = (query, key, value, attn_mask)
    if enable_gqa:
        key, value = _repeated("key", key, q), _repeated("value", value, q)
    factor = number(scale) if scale is not None else 1 / math.sqrt(q.shape[-1]) if q.shape[-1] else 1.0
    a, b, c = (cast(x if isinstance(x, Tensor) else Tensor(x), wide) for x in (query, key, value))
    scores = matmul(mul(a, factor), transpose(b, -2, -1))
    scores = _masked(scores, attn_mask, is_causal, q)
    # A query that no key counts for has scores that are all -inf, whose softmax would be NaN.
    plain = raw(scores)
    seen = (plain > -math.inf) | (plain != plain)
    seen = seen.any(axis=-1, keepdims=True)
    weights = masked(softmax(masked(scores, seen), -1), seen)
    weights = dropout(weights, dropout_p, True, False, generator)
    y = cast(matmul(weights, c), dtype)
    return y if any(isinstance(x, Tensor) for x in operands) else y.data


def _repeated(argument, x, q):
    """x with each head as often as there are heads of q for it."""
    shape = raw(x).shape
    if len(shape) < 3 or q.ndim < 3:
        raise ShapeError(_NAME, argument, list(shape), "[..., heads, S, E] where heads are shared")
    heads, wanted = shape[-3], q.shape[-3]
    if heads == 0 or wanted % heads:
        raise ShapeError(_NAME, argument, list(shape), f"a number of heads that divides {wanted}, that of query")
    if heads == wanted:
        return x
    spread = broadcast_to(unsqueeze(x, -3), *shape[:-2], wanted // heads, *shape[-2:])
    return reshape(spread, *shape[:-3], wanted, *shape[-2:])


def _masked(scores, attn_mask, is_causal, q):
    """The scores with what the mask says."""
    xp = backend.namespace(q)
    if is_causal:
        if attn_mask is not None:
            raise ShapeError(_NAME, "attn_mask", "a mask", "None beside is_causal=True")
        rows, columns = scores.shape[-2:]
        return where(xp.expand_dims(xp.arange(rows), 1) >= xp.arange(columns), scores, -math.inf)
    if attn_mask is None:
        return scores
    mask = array(_NAME, "attn_mask", attn_mask)
    if mask.dtype.kind != "b" and mask.dtype.name not in ("float32", q.dtype.name):
        raise DTypeError(_NAME, "attn_mask", mask.dtype.name, f"bool, float32 or {q.dtype.name}, the dtype of query")
    if check_broadcast(_NAME, {"scores": raw(scores), "attn_mask": mask}) != scores.shape:
        raise ShapeError(_NAME, "attn_mask", list(mask.shape), f"a shape that broadcasts to {list(scores.shape)}")
    if mask.dtype.kind == "b":
        return where(mask, scores, -math.inf)
    return add(scores, cast(attn_mask, scores.dtype))
