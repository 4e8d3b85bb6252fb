"""Values that parameters start from: the distributions of torch.nn.init, and what a seed decides."""

import numpy
import pytest
import torch

import fastconv
from fastconv import nn
from fastconv.errors import FastconvError


def test_default_values_have_pytorchs_distribution():
    fastconv.manual_seed(0)
    for ours, fan_in in (
        (nn.Linear(400, 300), 400), (nn.Conv2d(16, 64, 5), 400), (nn.ConvTranspose2d(16, 20, 5), 20 * 25),
        (nn.Conv3d(8, 64, 3, groups=2), 4 * 27),
    ):  # fmt: skip
        bound = fan_in**-0.5
        weight = ours.weight.data.astype("float64")
        assert 0.99 * bound < numpy.abs(weight).max() <= bound * (1 + 1e-6)
        # The mean and the variance of n values drawn evenly, within five standard deviations of each.
        assert abs(weight.mean()) < 5 * bound / (3 * weight.size) ** 0.5
        assert abs(weight.var() - bound**2 / 3) < 5 * bound**2 * (4 / 45 / weight.size) ** 0.5
        assert numpy.abs(ours.bias.data).max() <= bound * (1 + 1e-6)
        assert numpy.abs(ours.bias.data).max() > 0


def test_seed_decides_the_values():
    fastconv.manual_seed(7)
    first, second = nn.Linear(5, 4), nn.Linear(5, 4)
    fastconv.manual_seed(7)
    again = nn.Linear(5, 4)
    assert numpy.array_equal(first.weight.data, again.weight.data)
    assert numpy.array_equal(first.bias.data, again.bias.data)
    assert not numpy.array_equal(first.weight.data, second.weight.data)


INITS = [
    ("uniform_", (-0.3, 0.8)),
    ("normal_", (0.5, 2.0)),
    ("trunc_normal_", (0.5, 2.0, -1.0, 1.5)),
    ("xavier_uniform_", (1.5,)),
    ("xavier_normal_", (1.5,)),
    ("kaiming_uniform_", (0.2,)),
    ("kaiming_uniform_", (0, "fan_out", "relu")),
    ("kaiming_normal_", (0.2,)),
    ("kaiming_normal_", (0, "fan_out", "tanh")),
    ("orthogonal_", (1.5,)),
]


@pytest.mark.parametrize(("name", "args"), INITS)
def test_init_has_pytorchs_distribution(name, args):
    fastconv.manual_seed(0)
    torch.manual_seed(0)
    ours = nn.Parameter(numpy.zeros((60, 40, 5, 5)))
    assert getattr(nn.init, name)(ours, *args) is ours
    theirs = getattr(torch.nn.init, name)(torch.zeros(60, 40, 5, 5, dtype=torch.float64), *args).numpy()
    mine = numpy.sort(ours.data.ravel())
    # Kolmogorov-Smirnov: two samples of one distribution of n values each differ by more than
    # 2.3 * sqrt(2 / n) once in twenty thousand runs, and the seeds are fixed.
    n = mine.size
    shares = numpy.searchsorted(mine, numpy.sort(theirs.ravel()), side="right") / n
    assert numpy.abs(shares - (numpy.arange(n) + 1) / n).max() < 2.3 * (2 / n) ** 0.5


def test_init_of_fixed_values():
    array = numpy.empty((3, 4), "float32")
    assert nn.init.constant_(array, 2.5) is array
    assert (array == 2.5).all()
    assert (nn.init.ones_(array) == 1).all()
    assert not nn.init.zeros_(array).any()
    assert numpy.array_equal(nn.init.eye_(array), numpy.eye(3, 4))


def test_orthogonal_is_orthogonal():
    for shape in ((6, 4), (4, 3, 2), (3, 2)):
        matrix = nn.init.orthogonal_(numpy.empty(shape), gain=2.0).reshape(shape[0], -1)
        gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
        numpy.testing.assert_allclose(gram, 4 * numpy.eye(len(gram)), atol=1e-13)


@pytest.mark.parametrize(
    "name", ["linear", "conv2d", "conv_transpose3d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]
)
def test_gain_is_pytorchs(name):
    assert nn.init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name), rel=1e-15)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.init.kaiming_uniform_(numpy.zeros(3)),
        lambda: nn.init.kaiming_uniform_(numpy.zeros((3, 3)), mode="fan"),
        lambda: nn.init.kaiming_uniform_(numpy.zeros((3, 3)), nonlinearity="relu7"),
        lambda: nn.init.trunc_normal_(numpy.zeros(3), a=1, b=1),
        lambda: nn.init.zeros_([1.0]),
    ],
)
def test_refusals(make):
    with pytest.raises(FastconvError):
        make()
