"""What the tape of max pooling keeps: positions in the window, a byte each, where nobody else reads them."""

import numpy as np
import pytest

import fastconv.functional as F
from tests.gradients import check_gradients
from tests.test_pool import SIZES, WINDOWS, function, leaf, normal, of_rank, torch, torch_leaf


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_tape_keeps_a_byte_of_a_maximum(rank):
    """Positions in the window where nobody else reads them; those in the input, eight bytes, where somebody does."""
    x = leaf(normal(2, 3, *SIZES[rank]).astype("float32"))
    pool = function("max", rank)

    def kept(y):
        (saved,) = y._node.saves
        return saved.array.nbytes

    for kernel in (2, (3, 2, 3)[:rank]):
        y = pool(x, kernel)
        assert kept(y) == y.data.size
        y, indices = pool(x, kernel, return_indices=True)
        assert kept(y) == indices.data.nbytes == 8 * y.data.size


def test_windows_of_more_elements_than_a_byte_numbers():
    x = normal(1, 2, 40, 40)
    for kernel, itemsize in (((16, 16), 1), ((16, 17), 8), ((257, 1), 8)):
        a = np.resize(x, (1, 2, 300, 40)) if kernel[0] > 40 else x
        mine, other = leaf(a), torch_leaf(a)
        y, expected = F.max_pool2d(mine, kernel, 3), torch.nn.functional.max_pool2d(other, kernel, 3)
        assert y._node.saves[0].array.itemsize == itemsize
        dy = normal(*y.shape, seed=1)
        y.backward(dy)
        expected.backward(torch.from_numpy(dy))
        np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("window", WINDOWS)
def test_second_derivatives_pass_positions_in_windows(rank, window):
    arguments = of_rank(window, rank)
    x = normal(2, 2, *SIZES[rank])
    check_gradients(lambda v: function("max", rank)(v, *arguments), x)
