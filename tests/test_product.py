"""Products, running sums and einsum: what PyTorch's samples do not ask. Those are in test_torch_tensor_samples.py."""

import numpy as np
import pytest

import fastconv
from fastconv.errors import DTypeError, ShapeError
from tests.gradients import check_gradients
from tests.witness import check_like_torch, torch


def normal(*shape, seed=0):
    return np.asarray(np.random.default_rng(seed).standard_normal(shape))


@pytest.mark.parametrize("zeros", [0, 1, 2])
@pytest.mark.parametrize("dim", [None, 0, 1, -1])
def test_products_with_factors_that_are_zero_have_two_derivatives(zeros, dim):
    x = normal(3, 5)
    x[1, :zeros] = 0
    check_like_torch(
        lambda x: fastconv.prod(x) if dim is None else fastconv.prod(x, dim),
        lambda x: torch.prod(x) if dim is None else torch.prod(x, dim), x,
    )  # fmt: skip
    check_gradients(lambda x: fastconv.prod(x, dim, True) if dim is not None else x.prod(), x)


def test_running_sums_of_halves_are_kept_in_float32():
    x = np.full(4096, 0.25, "float16")
    np.testing.assert_array_equal(fastconv.cumsum(x, 0), ((np.arange(4096) + 1) * 0.25).astype("float16"))
    check_gradients(lambda x: x.cumsum(1) * x, normal(3, 4))


EQUATIONS = [
    ("ij,jk->ik", (3, 4), (4, 5)),
    ("ij,jk", (3, 4), (4, 5)),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    ("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)),
    ("nchw,kc->nkhw", (2, 3, 4, 2), (5, 3)),
    ("i,j->ij", (3,), (4,)),
    ("i,i", (3,), (3,)),
    ("ij->ji", (3, 4)),
    ("ij->", (3, 4)),
    ("ii->i", (3, 3)),
    ("ii", (3, 3)),
    ("iji->j", (3, 4, 3)),
    ("ijj->ij", (3, 4, 4)),
    ("...ij,...jk->...ik", (2, 3, 4), (4, 5)),
    ("...i,i...->...", (2, 3), (3, 2)),
    ("...", (2, 3)),
    ("i...->...", (2, 3)),
    ("ab,bc,cd->ad", (2, 3), (3, 4), (4, 5)),
    ("ab,ac,ad->bcd", (2, 3), (2, 4), (2, 5)),
    ("ab,ab,ab->a", (2, 3), (2, 3), (2, 3)),
    ("ab,c->a", (2, 3), (4,)),
    ("ij,kj->ik", (3, 4), (2, 1)),
    ("bA, Ac -> cb", (2, 3), (3, 4)),
    (",i->i", (), (3,)),
    ("ij,jk->ik", (0, 4), (4, 5)),
    ("ij,jk->ik", (3, 0), (0, 5)),
]


@pytest.mark.parametrize("equation, shapes", [(e[0], e[1:]) for e in EQUATIONS], ids=lambda v: str(v).replace(" ", ""))
def test_einsum_is_pytorchs(equation, shapes):
    arrays = [normal(*shape, seed=i) for i, shape in enumerate(shapes)]
    check_like_torch(
        lambda *a: fastconv.einsum(equation, *a), lambda *a: torch.einsum(equation, *a), *arrays, rtol=1e-11, atol=1e-13
    )
    check_gradients(lambda *a: fastconv.einsum(equation, *a), *arrays)
    np.testing.assert_array_equal(fastconv.einsum(equation, arrays), fastconv.einsum(equation, *arrays))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int64"])
def test_einsum_of_other_dtypes(dtype):
    pytest.importorskip("ml_dtypes")
    a, b = (4 * normal(2, 3)).astype(dtype), (4 * normal(3, 2, seed=1)).astype(dtype)
    y = fastconv.einsum("ij,jk->ik", a, b)
    assert y.dtype == a.dtype
    np.testing.assert_allclose(y.astype("float64"), a.astype("float64") @ b.astype("float64"), rtol=0.01)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda x: fastconv.einsum(1, x), DTypeError, "einsum: equation"),
        (lambda x: fastconv.einsum("ij,jk->ik", x), ShapeError, "einsum: operands: got 1 of them"),
        (lambda x: fastconv.einsum("i->i", x), ShapeError, "einsum: operands"),
        (lambda x: fastconv.einsum("ijk->i", x), ShapeError, "einsum: operands"),
        (lambda x: fastconv.einsum("ij->k", x), ShapeError, "einsum: equation"),
        (lambda x: fastconv.einsum("ij->ii", x), ShapeError, "einsum: equation"),
        (lambda x: fastconv.einsum("i1->i", x), ShapeError, "einsum: equation"),
        (lambda x: fastconv.einsum("ij->i->j", x), ShapeError, "einsum: equation"),
        (lambda x: fastconv.einsum("ij,jk", x, x), ShapeError, "einsum: operands: got"),
        (lambda x: fastconv.einsum("ij,ij", x, x.astype("f4")), DTypeError, "einsum: operands"),
        (lambda x: fastconv.einsum("ij", [1.0]), DTypeError, "einsum: operands"),
        (lambda x: fastconv.bmm(x, x), ShapeError, "bmm: input"),
        (lambda x: fastconv.bmm(x[None], np.stack([x.T] * 2)), ShapeError, "bmm: mat2"),
        (lambda x: fastconv.mm(x, x[0]), ShapeError, "mm: mat2"),
        (lambda x: fastconv.mm(x, x), ShapeError, "matmul: other"),
        (lambda x: fastconv.mv(x, x), ShapeError, "mv: vec"),
        (lambda x: fastconv.dot(x[0], x[0, :2]), ShapeError, "dot: tensor"),
        (lambda x: fastconv.outer(x, x[0]), ShapeError, "outer: input"),
        (lambda x: fastconv.prod(x, 2), ShapeError, "prod: dim: got 2"),
        (lambda x: fastconv.cumsum(x, 2), ShapeError, "cumsum: dim: got 2"),
        (lambda x: fastconv.cumsum(x, 0, dtype="text"), DTypeError, "cast: dtype"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call(normal(3, 4))
