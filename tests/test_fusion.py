"""fastconv.fuse: folded networks compute what they did, and what cannot be folded is left or refused."""

import copy
import pickle

import numpy
import pytest

import fastconv
from fastconv import Tensor, functional, nn, tolerance
from fastconv.nn import fused

DTYPES = ("float64", "float32", "float16", "bfloat16")
FACTOR = 4  # c of the error model; the worst measured needs 0.6


def drawn(model, seed=0):
    """The model in evaluation mode, with parameters and statistics as if it had learned something."""
    rng = numpy.random.default_rng(seed)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            for name, low, high in (("weight", -1.5, 1.5), ("bias", -1, 1), ("running_mean", -1, 1),
                                    ("running_var", 0.2, 3)):  # fmt: skip
                value = getattr(module, name)
                if value is not None:
                    value.data[...] = rng.uniform(low, high, value.shape)
    return model.eval()


def values(shape, dtype="float32", seed=1):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    return numpy.random.default_rng(seed).standard_normal(shape).astype(dtype)


def same(model, fused_model, x, relative=1e-5):
    """Whether both give the same but for rounding; the errors of a deep network have no simple bound."""
    expected, actual = model(x), fused_model(x)
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    scale = numpy.abs(expected.data.astype("float64")).max(initial=1)
    numpy.testing.assert_allclose(actual.data.astype("float64"), expected.data.astype("float64"), atol=relative * scale)


def kinds(model):
    return [type(m).__name__ for m in model.modules() if not list(m.children())]


LAYERS = [
    ("Conv1d", (4, 6, 3), dict(padding=2, dilation=2), (2, 4, 11)),
    ("Conv2d", (4, 6, 3), dict(padding=1, stride=2, groups=2, bias=False), (2, 4, 9, 8)),
    ("Conv2d", (4, 6, 3), dict(padding=2, padding_mode="reflect"), (2, 4, 9, 8)),
    ("Conv2d", (4, 8, 3), dict(padding=((1, 0), (2, 1)), groups=4), (2, 4, 9, 8)),
    ("Conv3d", (3, 5, (1, 3, 2)), dict(padding="same"), (1, 3, 4, 6, 5)),
    ("ConvTranspose1d", (4, 6, 3), dict(stride=2, groups=2), (2, 4, 7)),
    ("ConvTranspose2d", (4, 6, 2), dict(stride=2, bias=False), (2, 4, 5, 6)),
    ("ConvTranspose2d", (6, 4, 3), dict(stride=2, output_padding=1, groups=2), (2, 6, 5, 6)),
    ("ConvTranspose3d", (4, 3, 2), dict(stride=2), (1, 4, 3, 4, 2)),
    ("Linear", (5, 7), dict(), (6, 5)),
]


def of_layer(case, activation=None):
    name, args, kwargs, shape = case
    rank = 1 if name == "Linear" else int(name[-2])
    rest = [activation()] if activation else []
    channels = args[1]
    return nn.Sequential(getattr(nn, name)(*args, **kwargs), getattr(nn, f"BatchNorm{rank}d")(channels), *rest), shape


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", LAYERS, ids=lambda case: f"{case[0]}-{case[2]}")
def test_a_folded_norm_stays_within_the_error_model(case, dtype):
    x = values(case[3], dtype)
    model, _ = of_layer(case)
    drawn(model).to(dtype=dtype)
    result = fastconv.fuse(model, x)
    assert isinstance(result[1], fused.FoldedNorm)
    layer, norm = model
    wide = copy.deepcopy(model).double()
    expected = wide(x.astype("float64")).data
    # The scale: every number by its absolute value.
    scale = abs(wide[1].weight.data) / numpy.sqrt(wide[1].running_var.data + norm.eps)
    wide[0].weight.data = abs(wide[0].weight.data)
    if layer.bias is not None:
        wide[0].bias.data = abs(wide[0].bias.data)
    channels = (-1, *(1,) * (x.ndim - 2))
    scales = wide[0](abs(x.astype("float64"))).data + abs(wide[1].running_mean.data).reshape(channels)
    scales = scales * scale.reshape(channels) + abs(wide[1].bias.data).reshape(channels)
    length = layer.weight.data[0].size
    # Weight and bias are rounded to the dtype once: half an eps of every product.
    eps = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}[dtype]
    bound = tolerance.bound(expected, scales, length, x.dtype, FACTOR) + eps / 2 * scales
    tolerance.assert_within(result(x).data, expected, bound)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.SiLU])
@pytest.mark.parametrize("case", LAYERS, ids=lambda case: f"{case[0]}-{case[2]}")
def test_an_activation_is_computed_by_the_convolution(case, activation):
    model, shape = of_layer(case, activation)
    drawn(model)
    result = fastconv.fuse(model)
    assert (result[0].activation is not None) == (case[0].startswith("Conv") and "Transpose" not in case[0])
    same(model, result, values(shape))
    for channels_last in (False, True):
        x = values(shape)
        if channels_last and x.ndim > 2:
            x = numpy.moveaxis(numpy.ascontiguousarray(numpy.moveaxis(x, 1, -1)), -1, 1)
        same(model, result, x)


class Block(nn.Module):
    """Two convolutions, one activation for both, and a residual, as in ResNet."""

    def __init__(self, channels, filters, stride=1, rank=2):
        super().__init__()
        conv, norm = getattr(nn, f"Conv{rank}d"), getattr(nn, f"BatchNorm{rank}d")
        self.conv1 = conv(channels, filters, 3, stride, 1, bias=False)
        self.bn1 = norm(filters)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = norm(filters)
        self.downsample = None
        if stride != 1 or channels != filters:
            self.downsample = nn.Sequential(conv(channels, filters, 1, stride, bias=False), norm(filters))

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + identity)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_network_with_residuals(rank):
    model = drawn(nn.Sequential(Block(3, 8, 2, rank), Block(8, 8, 1, rank), nn.Flatten(1), nn.LazyLinear(4)))
    x = values((2, 3, *(8, 7, 6)[:rank]))
    model(x)
    model.eval()
    state = {key: value.copy() for key, value in model.state_dict().items()}
    result = fastconv.fuse(model, x)
    assert "BatchNorm2d" not in kinds(result)
    assert result[0].conv1.activation == "relu" and result[0].conv2.activation is None
    assert result[0].downsample[0].norm == f"BatchNorm{rank}d"
    same(model, result, x)
    same(model, result, values((5, 3, *(8, 7, 6)[:rank])))
    assert list(result.state_dict()) == [
        f"{key}.{name}"
        for key in ("0.conv1", "0.conv2", "0.downsample.0", "1.conv1", "1.conv2", "3")
        for name in ("weight", "bias")
    ]
    assert all((state[key] == value).all() for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


class UNet(nn.Module):
    """One step down and up again, with functional activations in the way down."""

    def __init__(self, rank):
        super().__init__()
        conv, norm = getattr(nn, f"Conv{rank}d"), getattr(nn, f"BatchNorm{rank}d")
        self.down = conv(2, 4, 3, padding=1)
        self.down_norm = norm(4)
        self.pool = getattr(nn, f"MaxPool{rank}d")(2)
        self.middle = nn.Sequential(conv(4, 6, 3, padding=1), norm(6), nn.SiLU())
        self.up = getattr(nn, f"ConvTranspose{rank}d")(6, 4, 2, 2)
        self.up_norm = norm(4)
        self.merge = conv(8, 3, 3, padding=1)
        self.act = nn.GELU()

    def forward(self, x):
        skip = functional.relu(self.down_norm(self.down(x)))
        y = self.up_norm(self.up(self.middle(self.pool(skip))))
        return self.act(self.merge(fastconv.cat([skip, y], 1)))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_network_with_skips(rank):
    model = drawn(UNet(rank))
    x = values((2, 2, *(8, 6, 4)[:rank]))
    result = fastconv.fuse(model, x)
    assert [result.down.norm, result.down.activation] == [f"BatchNorm{rank}d", None]
    assert result.middle[0].activation == "silu" and result.merge.activation == "gelu"
    assert result.up.norm == f"BatchNorm{rank}d"
    same(model, result, x)
    same(model, result, Tensor(x))


class TwoReaders(nn.Module):
    """A convolution whose result goes into a norm, and somewhere else that the subclass tells."""

    def __init__(self, other):
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.ReLU()
        self.other = other
        self.kept = None

    def forward(self, x):
        y = self.conv(x)
        return self.other(self, y, self.norm(y))


OTHERS = {
    "a function": lambda self, y, z: z + y,
    "its array": lambda self, y, z: z * Tensor((y.data > 0).astype("float32")),
    "a module": lambda self, y, z: z + self.act(y),
    "an attribute": lambda self, y, z: (setattr(self, "kept", [y]), z)[1],
    "its parameters": lambda self, y, z: z + self.conv.weight.sum(),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_read_elsewhere_is_not_folded(name):
    model = drawn(TwoReaders(OTHERS[name]))
    x = values((2, 2, 3, 3))
    result = fastconv.fuse(model, x)
    assert result.conv.norm is None
    same(model, result, x)


def test_a_result_that_is_returned_is_not_folded():
    model = drawn(TwoReaders(lambda self, y, z: (y, [z])))
    x = values((2, 2, 3, 3))
    result = fastconv.fuse(model, x)
    assert result.conv.norm is None
    for expected, actual in zip(model(x), result(x), strict=True):
        for one, other in zip(*([v] if isinstance(v, Tensor) else v for v in (expected, actual)), strict=True):
            numpy.testing.assert_allclose(other.data, one.data, rtol=1e-5)


def test_shared_layers_are_folded_only_where_they_are_always_followed_by_the_same():
    conv = nn.Conv2d(2, 2, 1)
    apart = drawn(nn.Sequential(conv, nn.BatchNorm2d(2), conv, nn.BatchNorm2d(2), nn.ReLU()))
    x = values((2, 2, 4, 4))
    for result in (fastconv.fuse(apart), fastconv.fuse(apart, x)):
        assert kinds(result) == ["FusedConv2d", "BatchNorm2d", "BatchNorm2d", "ReLU"]
        same(apart, result, x)
    together = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.ReLU())
    twice = drawn(nn.Sequential(together, together))
    assert fastconv.fuse(twice)[0][0].norm is None
    result = fastconv.fuse(twice, x)
    assert result[0][0].norm == "BatchNorm2d" and result[0] is result[1]
    same(twice, result, x)


def test_one_activation_of_several_layers_computes_what_they_do_not():
    gelu = nn.GELU()
    model = drawn(nn.Sequential(nn.Conv2d(2, 3, 1), gelu, gelu, nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), gelu))
    x = values((2, 2, 4, 4))
    for result in (fastconv.fuse(model), fastconv.fuse(model, x)):
        assert kinds(result) == ["FusedConv2d", "AbsorbedGELU", "FusedConv2d", "FoldedNorm"]
        same(model, result, x)


def test_sequentials_within_sequentials_are_one_row():
    model = drawn(nn.Sequential(nn.Sequential(nn.Conv2d(2, 3, 1)), nn.Identity(), nn.BatchNorm2d(3), nn.ReLU()))
    result = fastconv.fuse(model)
    assert result[0][0].norm == "BatchNorm2d" and result[0][0].activation == "relu"
    same(model, result, values((2, 2, 4, 4)))


def test_hooks_and_subclasses_prevent_fusion():
    class Own(nn.Conv2d):
        pass

    seen = []
    model = drawn(nn.Sequential(
        Own(2, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.ReLU(),
        nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2),
    ))  # fmt: skip
    model[3].register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    model[5].register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))
    x = values((2, 2, 4, 4))
    for result in (fastconv.fuse(model), fastconv.fuse(model, x)):
        assert kinds(result)[:5] == ["Own", "BatchNorm2d", "FusedConv2d", "BatchNorm2d", "ReLU"]
        assert result[5].norm is None
        seen.clear()
        same(model, result, x)
        assert len(seen) == 2


def test_norms_that_cannot_be_folded_stay():
    pairs = [
        nn.BatchNorm2d(2, track_running_stats=False), nn.BatchNorm2d(2).train(), nn.BatchNorm2d(2), nn.BatchNorm2d(2),
    ]  # fmt: skip
    model = nn.Sequential(*(m for norm in pairs for m in (nn.Conv2d(2, 2, 1), norm)))
    drawn(model)
    pairs[1].train()
    pairs[2].running_var.data[...] = -1  # NaN, as the norm has it
    pairs[3].running_var.data[...] = [1, numpy.inf]
    result = fastconv.fuse(model, values((2, 2, 3, 3)))
    assert [result[i].norm for i in (0, 2, 4)] == [None] * 3
    assert result[6].norm == "BatchNorm2d"
    half = drawn(nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))).half()
    half[1].running_var.data[...] = [1, 6e4]
    half[1].weight.data[...] = [1, 1e-6]
    assert fastconv.fuse(half)[0].norm is None  # the folded weight is too small for a half
    without = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, affine=False)).eval()
    same(without, fastconv.fuse(without), values((2, 2, 3, 3)))


def test_a_result_that_goes_another_way_later_is_refused():
    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.act = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.GELU()

        def forward(self, x):
            y = self.conv(x)
            if x.shape[0] == 2:
                return y * 2
            if x.shape[0] == 3:
                return self.norm(x)
            return self.act(y) if x.shape[0] == 4 else self.act(self.norm(y))

    result = fastconv.fuse(drawn(Fork()), values((1, 1, 3, 3)))
    assert result.conv.activation == "gelu"
    for batch in (2, 3, 4):
        with pytest.raises(fastconv.GraphError, match="example that goes this way"):
            result(values((batch, 1, 3, 3)))


def test_an_input_without_a_batch_is_refused_where_a_norm_was_folded():
    model = drawn(nn.Sequential(nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3)))
    with pytest.raises(fastconv.ShapeError, match="BatchNorm1d was folded in"):
        fastconv.fuse(model)(values((2, 3)))
    linear = drawn(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))
    with pytest.raises(fastconv.ShapeError, match="BatchNorm1d was folded in"):
        fastconv.fuse(linear)(values((2, 3, 3)))
    bare = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU()).eval()
    same(bare, fastconv.fuse(bare), values((2, 4, 4)))


def test_gradients_reach_the_input():
    model = drawn(nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.GELU(), nn.Flatten(), nn.Linear(12, 1)))
    model.double()
    result = fastconv.fuse(model)
    grads = []
    for network in (model, result):
        x = Tensor(values((2, 2, 4, 4), "float64"), requires_grad=True)
        network(x).sum().backward()
        grads.append(x.grad.data)
    numpy.testing.assert_allclose(grads[1], grads[0], rtol=1e-12)
    assert not any(param.requires_grad for param in result.parameters())


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_weights_are_frozen_and_stay_so_in_copies(clone):
    model = drawn(nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.ConvTranspose2d(3, 2, 2)))
    result = clone(fastconv.fuse(model))
    for param in result.parameters():
        assert param.data.flags.owndata and not param.data.flags.writeable
    same(model, result, values((2, 2, 3, 3)))
    with pytest.raises(fastconv.ShapeError, match=r"0\.weight for an array that is read-only"):
        result.load_state_dict(result.state_dict())
    again = fastconv.fuse(result)
    same(model, again, values((2, 2, 3, 3)))


def test_what_is_printed():
    result = fastconv.fuse(drawn(nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Linear(3, 3))))
    assert repr(result) == (
        "Sequential(\n"
        "  (0): FusedConv2d(2, 3, kernel_size=(1, 1), stride=(1, 1), norm=BatchNorm2d, activation=relu)\n"
        "  (1): FoldedNorm()\n"
        "  (2): AbsorbedReLU()\n"
        "  (3): FusedLinear(in_features=3, out_features=3, bias=True)\n"
        ")"
    )


def test_a_single_layer_and_lazy_ones():
    layer = nn.Conv2d(2, 3, 1).eval()
    x = values((1, 2, 3, 3))
    same(layer, fastconv.fuse(layer), x)
    lazy = nn.Sequential(nn.LazyConv2d(3, 1), nn.LazyBatchNorm2d(), nn.ReLU()).eval()
    result = fastconv.fuse(lazy, x)
    assert type(result[0]) is nn.LazyConv2d
    assert result(x).shape == (1, 3, 3, 3)


def test_refusals():
    with pytest.raises(fastconv.GraphError, match=r"training mode.*call model\.eval\(\)"):
        fastconv.fuse(nn.Conv2d(1, 1, 1))
    with pytest.raises(fastconv.DTypeError, match=r"fuse: model: got builtins\.int"):
        fastconv.fuse(3)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_backends(backend):
    model = drawn(nn.Sequential(Block(3, 4), nn.Conv2d(4, 4, 1), nn.GELU()))
    x = values((2, 3, 5, 5))
    with fastconv.use_backend(backend):
        result = fastconv.fuse(model, x)
        same(model, result, x)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.SiLU])
def test_special_numbers_are_those_of_the_layers(activation):
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), activation()).eval()
    model[0].weight.data[...] = 1
    x = numpy.array([numpy.nan, numpy.inf, -numpy.inf, 0.0, -0.0, 1e38, -1e38, -100.0], "float32").reshape(1, 1, 1, -1)
    with numpy.errstate(all="ignore"):
        numpy.testing.assert_allclose(fastconv.fuse(model)(x).data, model(x).data, rtol=1e-6, atol=1e-37)
