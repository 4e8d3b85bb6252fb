"""Random small networks: every gradient of every parameter and of the input against PyTorch's."""

import numpy
import pytest
import torch

from fastconv import Tensor, nn

NETWORKS = 20
RELATIVE = 1e-9  # of the largest element of each gradient, float64
# Of the largest element of all gradients: a bias whose effect a batch norm takes away again, all of its
# channel being on one side of a ReLU, has a gradient of 0, and both libraries find rounding errors there.
CANCELLED = 1e-12

ACTIVATIONS = ("ReLU", "LeakyReLU", "ELU", "SiLU", "GELU", "Tanh", "Softplus", "Mish", "Hardswish")
LOSSES = ("CrossEntropyLoss", "MSELoss", "SmoothL1Loss", "BCEWithLogitsLoss")


class Plan:
    """Draws the layers of a network, following the shape that its data has after each.

    Args:
        seed: Decides everything.

    Attributes:
        layers: (class, positional arguments, keyword arguments), in the order of the network.
        shape: That of the input, [N, C, *size].
    """

    def __init__(self, seed):
        self._rng = numpy.random.default_rng(seed)
        self.rank = 1 + seed % 3
        self._channels = 2 * self._int(1, 3)
        self._size = tuple(self._int(*{1: (14, 24), 2: (9, 13), 3: (6, 8)}[self.rank]) for _ in range(self.rank))
        self.batch = self._int(2, 3)
        self.shape = (self.batch, self._channels, *self._size)
        self.layers = []
        self._add_conv()
        self._add_activation()  # else a bias before a batch norm would have a gradient of rounding errors alone
        for add in self._rng.permutation([self._add_conv, self._add_transpose, self._add_pool, self._add_norm]):
            add()
            self._add_activation()
        self._add("Dropout", 0.0)
        self._add_head(self._int(2, 5))
        self.loss = LOSSES[self._int(0, len(LOSSES) - 1)]

    def _int(self, least, most):
        return int(self._rng.integers(least, most + 1))

    def _per_axis(self, least, most):
        return tuple(self._int(least, most) for _ in range(self.rank))

    def _add(self, name, *args, **kwargs):
        self.layers.append((name, args, kwargs))

    def _follow(self, size):
        """Note the shape after a layer whose output size was computed; the tests compare it with the real one."""
        self._size = tuple(size)
        assert min(self._size) >= 1

    def _groups(self):
        return int(self._rng.choice([g for g in (1, 2, self._channels) if self._channels % g == 0]))

    def _add_conv(self):
        kernel = tuple(min(k, s) for k, s in zip(self._per_axis(1, 3), self._size, strict=True))
        dilation = tuple(d if d * (k - 1) < s else 1 for d, k, s in zip(
            self._per_axis(1, 2), kernel, self._size, strict=True))  # fmt: skip
        stride, padding = self._per_axis(1, 2), self._per_axis(0, 2)
        groups = self._groups()
        filters = groups * self._int(1, 2) * (2 if groups % 2 else 1)
        self._add(
            f"Conv{self.rank}d", self._channels, filters, kernel, stride=stride, padding=padding,
            dilation=dilation, groups=groups, bias=bool(self._int(0, 1)),
        )  # fmt: skip
        self._channels = filters
        self._follow((s + 2 * p - d * (k - 1) - 1) // t + 1 for s, p, d, k, t in zip(
            self._size, padding, dilation, kernel, stride, strict=True))  # fmt: skip

    def _add_transpose(self):
        kernel, stride, dilation = self._per_axis(2, 3), self._per_axis(1, 3), self._per_axis(1, 2)
        extra = tuple(self._int(0, max(t, d) - 1) for t, d in zip(stride, dilation, strict=True))
        padding = tuple(min(p, (k - 1) // 2) for p, k in zip(self._per_axis(0, 1), kernel, strict=True))
        groups = self._groups()
        filters = groups * (2 if groups % 2 else 1)
        self._add(
            f"ConvTranspose{self.rank}d", self._channels, filters, kernel, stride=stride, padding=padding,
            output_padding=extra, groups=groups, dilation=dilation,
        )  # fmt: skip
        self._channels = filters
        self._follow((s - 1) * t - 2 * p + d * (k - 1) + e + 1 for s, t, p, d, k, e in zip(
            self._size, stride, padding, dilation, kernel, extra, strict=True))  # fmt: skip

    def _add_pool(self):
        kernel = tuple(min(k, s) for k, s in zip(self._per_axis(1, 3), self._size, strict=True))
        stride = self._per_axis(1, 2)
        padding = tuple(k // 2 for k in kernel)
        kind = ("MaxPool", "AvgPool", "AdaptiveAvgPool", "AdaptiveMaxPool")[self._int(0, 3)]
        if kind.startswith("Adaptive"):
            size = self._per_axis(1, 5)
            self._add(f"{kind}{self.rank}d", size)
            self._follow(size)
            return
        self._add(f"{kind}{self.rank}d", kernel, stride=stride, padding=padding)
        self._follow((s + 2 * p - k) // t + 1 for s, p, k, t in zip(self._size, padding, kernel, stride, strict=True))

    def _add_norm(self):
        self._add(f"BatchNorm{self.rank}d", self._channels)

    def _add_activation(self):
        self._add(ACTIVATIONS[self._int(0, len(ACTIVATIONS) - 1)])

    def _add_head(self, outputs):
        features = self._channels * int(numpy.prod(self._size))
        self._add("Flatten")
        self._add("Linear", features, 7)
        self._add_activation()
        self._add("Linear", 7, outputs)
        self.outputs = outputs

    def target(self):
        """A target that the loss takes."""
        if self.loss == "CrossEntropyLoss":
            return self._rng.integers(0, self.outputs, self.batch)
        return self._rng.uniform(0, 1, (self.batch, self.outputs))

    def build(self, library):
        """The network, from torch.nn or from fastconv.nn."""
        return library.Sequential(*(getattr(library, name)(*args, **kwargs) for name, args, kwargs in self.layers))


def _close(mine, other, what, floor=0.0):
    other = other.detach().numpy()
    assert mine.shape == other.shape, what
    bound = max(RELATIVE * numpy.abs(other).max(initial=0), floor)
    numpy.testing.assert_allclose(mine, other, rtol=0, atol=bound, err_msg=what)


@pytest.mark.parametrize("seed", range(NETWORKS))
def test_gradients_of_a_random_network_are_pytorchs(seed):
    plan = Plan(seed)
    torch.manual_seed(seed)
    ours, theirs = plan.build(nn).double(), plan.build(torch.nn).double()
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    rng = numpy.random.default_rng(100 + seed)
    data, target = rng.standard_normal(plan.shape), plan.target()
    x, x_theirs = Tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    y, y_theirs = ours(x), theirs(x_theirs)
    _close(y.data, y_theirs, "y")
    loss = getattr(nn, plan.loss)()(y, Tensor(target))
    expected = getattr(torch.nn, plan.loss)()(y_theirs, torch.tensor(target))
    _close(loss.data, expected, "loss")
    loss.backward()
    expected.backward()
    known = dict(theirs.named_parameters())
    floor = CANCELLED * max(param.grad.abs().max().item() for param in known.values())
    _close(x.grad.data, x_theirs.grad, "x", floor)
    for name, param in ours.named_parameters():
        _close(param.grad.data, known[name].grad, f"{name} of {plan.layers}", floor)
    for name, buffer in ours.named_buffers():
        _close(buffer.data, dict(theirs.named_buffers())[name], name)


def test_the_networks_hold_every_kind_of_layer():
    plans = [Plan(seed) for seed in range(NETWORKS)]
    names = {name for plan in plans for name, _, _ in plan.layers}
    kinds = ("Conv", "ConvTranspose", "BatchNorm")
    assert {f"{kind}{rank}d" for kind in kinds for rank in (1, 2, 3)} <= names
    assert all(any(name.startswith(kind) for name in names) for kind in ("Max", "Avg", "AdaptiveAvg", "AdaptiveMax"))
    assert {plan.loss for plan in plans} == set(LOSSES)
    convs = [(args, kwargs) for plan in plans for name, args, kwargs in plan.layers if name.startswith("Conv")]
    assert any(kwargs["groups"] > 1 for _, kwargs in convs)
    assert any(max(kwargs["dilation"]) > 1 for _, kwargs in convs)
    assert any(max(kwargs["stride"]) > 1 for _, kwargs in convs)
