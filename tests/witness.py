"""PyTorch as a witness: the same call there and here, in float64 and in every other dtype."""

import numpy as np
import pytest

from fastconv.autograd import Tensor, grad, raw
from fastconv.creation import tensor

torch = pytest.importorskip("torch", reason="PyTorch is the specification of these functions")

ROUNDINGS = 256

TORCH_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32,
                "float64": torch.float64}  # fmt: skip


def as_torch(array, requires_grad=False):
    """A torch tensor of the values and dtype of an array."""
    if array.dtype.name == "bfloat16":
        made = torch.from_numpy(array.astype("float32")).bfloat16()
    else:
        made = torch.from_numpy(np.array(array))
    return made.requires_grad_(requires_grad and made.is_floating_point())


def to_numpy(value):
    """The values of a torch tensor in float64, or in their own dtype if that is not floating."""
    value = value.detach()
    return value.double().numpy() if value.is_floating_point() else value.numpy()


def allowance(theirs, dtype):
    """What two computations in a dtype may differ by: so many roundings of the largest finite value, or of 1."""
    return ROUNDINGS * np.finfo(dtype).eps * np.abs(theirs[np.isfinite(theirs)]).max(initial=1.0)


def same_dtype(mine, theirs):
    """Whether an array or Tensor has the dtype of a torch tensor."""
    return mine.dtype.name == str(theirs.dtype).removeprefix("torch.")


def check_like_torch(ours, theirs, *arrays, rtol=1e-12, atol=1e-13, seed=0):
    """Values, dtype, shape and gradients are PyTorch's; and the same comes of plain arrays, as an array.

    Args:
        ours: Function of Tensors or arrays.
        theirs: The same function of torch tensors.
        arrays: What to call both with; a gradient is asked of the floating ones.
        rtol, atol: Allowed of values and gradients.
        seed: Of the incoming gradient.
    """
    mine = [tensor(a.copy(), requires_grad=a.dtype.kind == "f") for a in arrays]
    other = [as_torch(a, requires_grad=True) for a in arrays]
    y, expected = ours(*mine), theirs(*other)
    assert isinstance(y, Tensor)
    assert y.shape == tuple(expected.shape)
    assert same_dtype(y, expected), (y.dtype, expected.dtype)
    np.testing.assert_allclose(y.data, to_numpy(expected), rtol=rtol, atol=atol)
    plain = ours(*[a.copy() for a in arrays])
    assert type(plain) is np.ndarray
    np.testing.assert_array_equal(plain, y.data)
    assert plain.dtype == y.dtype
    assert y.requires_grad == expected.requires_grad
    if not expected.requires_grad:
        return
    dy = np.random.default_rng(seed).standard_normal(y.shape).astype(y.dtype)
    leaves = [m for m in mine if m.requires_grad]
    gradients = grad(y, leaves, tensor(dy), allow_unused=True)
    wanted = torch.autograd.grad(expected, [o for o in other if o.requires_grad], as_torch(dy), allow_unused=True)
    for leaf, gradient, want in zip(leaves, gradients, wanted, strict=True):
        if want is None:
            assert gradient is None or not raw(gradient).any()
            continue
        assert gradient.shape == leaf.shape
        assert gradient.dtype == leaf.dtype
        np.testing.assert_allclose(gradient.data, to_numpy(want), rtol=rtol, atol=atol)
