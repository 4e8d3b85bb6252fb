"""Modules against torch.nn: the same state, the same results, the same gradients."""

import copy
import importlib.util
import inspect
import pickle

import numpy
import pytest
import torch

import fastconv
from fastconv import Tensor, nn
from fastconv.errors import DeviceError, DTypeError, FastconvError, ShapeError

RELATIVE = 1e-9  # of the largest element, float64

# (class, positional arguments, keyword arguments, input shape)
CASES = [
    ("Linear", (5, 3), {}, (4, 5)),
    ("Linear", (5, 3), dict(bias=False), (2, 4, 5)),
    ("Conv1d", (4, 6, 3), dict(stride=2, padding=1, dilation=2, groups=2), (2, 4, 11)),
    ("Conv1d", (4, 6, 3), {}, (4, 11)),
    ("Conv2d", (3, 4, 3), {}, (2, 3, 7, 6)),
    ("Conv2d", (4, 6, (3, 2)), dict(stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2), (2, 4, 7, 6)),
    ("Conv2d", (3, 4, (3, 2)), dict(padding="same", dilation=2), (2, 3, 7, 6)),
    ("Conv2d", (3, 4, 3), dict(padding="valid"), (2, 3, 7, 6)),
    ("Conv3d", (2, 4, 2), dict(stride=2, padding=1), (2, 2, 4, 5, 3)),
    ("ConvTranspose1d", (4, 6, 3), dict(stride=3, padding=1, output_padding=2, groups=2), (2, 4, 5)),
    ("ConvTranspose2d", (3, 4, 3), dict(stride=2, dilation=(1, 2)), (2, 3, 4, 3)),
    ("ConvTranspose2d", (3, 4, 2), dict(bias=False), (3, 4, 3)),
    ("ConvTranspose3d", (2, 4, 2), dict(stride=2, padding=1), (2, 2, 3, 2, 4)),
    ("MaxPool1d", (3,), dict(stride=2, padding=1), (2, 3, 9)),
    ("MaxPool2d", (2,), dict(ceil_mode=True), (2, 3, 7, 5)),
    ("MaxPool2d", ((3, 2),), dict(stride=1, dilation=2), (2, 3, 7, 5)),
    ("MaxPool3d", (2,), {}, (2, 3, 4, 6, 5)),
    ("AvgPool1d", (3,), dict(stride=2, padding=1, count_include_pad=False), (2, 3, 9)),
    ("AvgPool2d", (3,), dict(stride=2, padding=1, ceil_mode=True), (2, 3, 7, 5)),
    ("AvgPool2d", (2,), dict(divisor_override=3), (2, 3, 7, 5)),
    ("AvgPool3d", (2,), {}, (2, 3, 4, 6, 5)),
    ("AdaptiveAvgPool1d", (4,), {}, (2, 3, 9)),
    ("AdaptiveAvgPool2d", ((3, None),), {}, (2, 3, 7, 5)),
    ("AdaptiveAvgPool3d", (2,), {}, (2, 3, 4, 6, 5)),
    ("AdaptiveMaxPool1d", (4,), {}, (2, 3, 9)),
    ("AdaptiveMaxPool2d", ((3, None),), {}, (2, 3, 7, 5)),
    ("AdaptiveMaxPool3d", (2,), {}, (2, 3, 4, 6, 5)),
    ("LPPool1d", (2, 3), dict(stride=2), (2, 3, 9)),
    ("LPPool2d", (float("inf"), (3, 2)), dict(ceil_mode=True), (2, 3, 7, 5)),
    ("LPPool3d", (2, 2), {}, (2, 3, 4, 6, 5)),
    ("BatchNorm1d", (3,), {}, (6, 3)),
    ("BatchNorm1d", (3,), dict(eps=0.1, momentum=None), (4, 3, 5)),
    ("BatchNorm2d", (3,), dict(momentum=0.3), (4, 3, 5, 2)),
    ("BatchNorm2d", (3,), dict(affine=False), (4, 3, 5, 2)),
    ("BatchNorm3d", (3,), dict(track_running_stats=False), (2, 3, 2, 3, 4)),
    ("InstanceNorm1d", (3,), {}, (2, 3, 5)),
    ("InstanceNorm1d", (3,), dict(affine=True, track_running_stats=True), (3, 5)),
    ("InstanceNorm2d", (3,), dict(affine=True, momentum=0.3, track_running_stats=True), (4, 3, 5, 2)),
    ("InstanceNorm2d", (3,), dict(track_running_stats=True, momentum=None), (4, 3, 5, 2)),
    ("InstanceNorm3d", (3,), dict(affine=True, eps=0.1), (3, 2, 3, 4)),
    ("LayerNorm", (5,), {}, (4, 3, 5)),
    ("LayerNorm", ((3, 5),), dict(bias=False), (4, 3, 5)),
    ("LayerNorm", ([4, 3, 5],), dict(elementwise_affine=False, eps=0.1), (4, 3, 5)),
    ("GroupNorm", (2, 6), {}, (4, 6)),
    ("GroupNorm", (3, 6), dict(affine=False), (2, 6, 3, 2)),
    ("ReLU", (), {}, (4, 5)),
    ("ReLU6", (), {}, (4, 5)),
    ("LeakyReLU", (0.2,), {}, (4, 5)),
    ("LeakyReLU", (), {}, (4, 5)),
    ("ELU", (0.7,), {}, (4, 5)),
    ("SELU", (), {}, (4, 5)),
    ("CELU", (0.5,), {}, (4, 5)),  # PyTorch rounds 1 / alpha to float32 in the gradient: here it is exact
    ("SiLU", (), {}, (4, 5)),
    ("GELU", (), {}, (4, 5)),
    ("GELU", (), dict(approximate="tanh"), (4, 5)),
    ("Mish", (), {}, (4, 5)),
    ("Hardswish", (), {}, (4, 5)),
    ("Hardsigmoid", (), {}, (4, 5)),
    ("Hardtanh", (), {}, (4, 5)),
    ("Hardtanh", (-0.5, 0.3), {}, (4, 5)),
    ("Softplus", (), {}, (4, 5)),
    ("Softplus", (2.0, 1.0), {}, (4, 5)),
    ("Softsign", (), {}, (4, 5)),
    ("LogSigmoid", (), {}, (4, 5)),
    ("Sigmoid", (), {}, (4, 5)),
    ("Tanh", (), {}, (4, 5)),
    ("Threshold", (0.1, 20), {}, (4, 5)),
    ("Tanhshrink", (), {}, (4, 5)),
    ("Softshrink", (), {}, (4, 5)),
    ("Softshrink", (0.2,), {}, (4, 5)),
    ("Hardshrink", (), {}, (4, 5)),
    ("Hardshrink", (0.2,), {}, (4, 5)),
    ("GLU", (), {}, (4, 6)),
    ("GLU", (1,), {}, (2, 4, 3)),
    ("RReLU", (0.25, 0.25), {}, (4, 5)),
    ("PReLU", (), {}, (4, 5)),
    ("PReLU", (5,), dict(init=0.1), (4, 5)),
    ("PReLU", (3,), {}, (2, 3, 4, 5)),
    ("Softmax", (1,), {}, (4, 5, 2)),
    ("Softmin", (1,), {}, (4, 5, 2)),
    ("Softmax2d", (), {}, (2, 3, 4, 5)),
    ("Softmax2d", (), {}, (3, 4, 5)),
    ("LogSoftmax", (), dict(dim=-1), (4, 5, 2)),
    ("Flatten", (), {}, (4, 5, 2)),
    ("Flatten", (0, 1), {}, (4, 5, 2)),
    ("Unflatten", (1, (2, 3)), {}, (4, 6, 2)),
    ("Identity", (1, 2), dict(what=3), (4, 5)),
    ("Dropout", (0.0,), {}, (4, 5)),
    ("Dropout1d", (0.0,), {}, (4, 5, 2)),
    ("Dropout2d", (0.0,), {}, (4, 5, 2, 3)),
    ("Dropout3d", (0.0,), {}, (4, 5, 2, 3, 2)),
    ("AlphaDropout", (0.0,), {}, (4, 5)),
    ("FeatureAlphaDropout", (0.0,), dict(inplace=True), (4, 5)),
]
# Layers that PyTorch does not have.
OURS = ("DiceLoss", "FocalLoss", "SigmoidFocalLoss", "TverskyLoss")
NAMES = [f"{i}-{case[0]}" for i, case in enumerate(CASES)]


class Hardsigmoid(torch.nn.Module):
    """torch.nn.Hardsigmoid, whose own gradient has a 1/6 that is rounded to float32."""

    def forward(self, input):
        return torch.nn.functional.relu6(input + 3) / 6


def _build(name, args, kwargs):
    """The same module here and in PyTorch, in float64, with PyTorch's state."""
    theirs = (Hardsigmoid() if name == "Hardsigmoid" else getattr(torch.nn, name)(*args, **kwargs)).double()
    ours = getattr(nn, name)(*args, **kwargs).double()
    rng = numpy.random.default_rng(0)
    state = {}
    for key, value in theirs.state_dict().items():
        shape = tuple(value.shape)
        drawn = rng.uniform(0.5, 1.5, shape) if value.is_floating_point() else rng.integers(0, 5, shape)
        state[key] = numpy.asarray(drawn).astype(value.numpy().dtype)
    theirs.load_state_dict({key: torch.tensor(value) for key, value in state.items()})
    assert str(ours.load_state_dict(state)) == "<All keys matched successfully>"
    return ours, theirs


def _close(mine, other, what=""):
    other = other.detach().numpy()
    assert mine.shape == other.shape
    assert mine.dtype == other.dtype
    bound = RELATIVE * max(numpy.abs(other).max(initial=0), 1e-300)
    numpy.testing.assert_allclose(mine, other, rtol=0, atol=bound, err_msg=what)


def _same_gradients(ours, theirs):
    params, expected = dict(ours.named_parameters()), dict(theirs.named_parameters())
    assert list(params) == list(expected)
    for key, param in params.items():
        _close(param.grad.data, expected[key].grad, key)


def _same_buffers(ours, theirs):
    for key, buffer in ours.named_buffers():
        _close(buffer.data, dict(theirs.named_buffers())[key], key)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_module_agrees_with_pytorch(case, training):
    name, args, kwargs, shape = case
    ours, theirs = _build(name, args, kwargs)
    ours.train(training)
    theirs.train(training)
    rng = numpy.random.default_rng(1)
    for _ in range(2):  # running statistics move from the first call to the second
        data = rng.standard_normal(shape)
        x, x_theirs = Tensor(data.copy(), requires_grad=True), torch.tensor(data, requires_grad=True)
        ours.zero_grad()
        theirs.zero_grad()
        y, y_theirs = ours(x), theirs(x_theirs)
        _close(y.data, y_theirs, "y")
        dy = rng.standard_normal(y.shape)
        y.backward(dy)
        y_theirs.backward(torch.tensor(dy))
        _close(x.grad.data, x_theirs.grad, "dx")
        _same_gradients(ours, theirs)
        _same_buffers(ours, theirs)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_state_dict_has_pytorchs_names_layouts_and_dtypes(case):
    name, args, kwargs, _ = case
    ours, theirs = getattr(nn, name)(*args, **kwargs), getattr(torch.nn, name)(*args, **kwargs)
    expected = theirs.state_dict()
    state = ours.state_dict()
    assert list(state) == list(expected)
    for key, array in state.items():
        assert array.shape == tuple(expected[key].shape)
        assert array.dtype == expected[key].numpy().dtype
    theirs.load_state_dict({key: torch.from_numpy(array) for key, array in state.items()})


@pytest.mark.parametrize("case", [c for c in CASES if "Norm" not in c[0]], ids=lambda c: c[0])
def test_repr_is_pytorchs(case):
    name, args, kwargs, _ = case
    assert repr(getattr(nn, name)(*args, **kwargs)) == repr(getattr(torch.nn, name)(*args, **kwargs))


def test_repr_of_batch_norm_names_its_options():
    expected = "BatchNorm2d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)"
    assert repr(nn.BatchNorm2d(3)) == expected


def test_repr_of_the_other_norms_names_their_options():
    options = "eps=1e-05, momentum=0.1, affine=False, bias=False, track_running_stats=False"
    assert repr(nn.InstanceNorm2d(3)) == f"InstanceNorm2d(3, {options})"
    assert repr(nn.LayerNorm((2, 5))) == "LayerNorm((2, 5), eps=1e-05, elementwise_affine=True, bias=True)"
    assert repr(nn.GroupNorm(3, 6, bias=False)) == "GroupNorm(3, 6, eps=1e-05, affine=True, bias=False)"


def test_instance_norm_warns_of_channels_that_it_did_not_expect():
    with pytest.warns(UserWarning, match="InstanceNorm2d: input has 4 channels, expected 3"):
        nn.InstanceNorm2d(3)(numpy.zeros((2, 4, 5, 5), "float32"))


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_plain_arrays_are_taken(case):
    name, args, kwargs, shape = case
    ours, _ = _build(name, args, kwargs)
    ours.eval()
    data = numpy.random.default_rng(1).standard_normal(shape)
    y = ours(data.copy())
    numpy.testing.assert_array_equal(fastconv.autograd.raw(y), ours(Tensor(data)).data)
    assert isinstance(y, Tensor) == bool(list(ours.parameters()))


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_module_survives_pickle_and_copy(case):
    name, args, kwargs, shape = case
    ours, _ = _build(name, args, kwargs)
    x = Tensor(numpy.random.default_rng(1).standard_normal(shape))
    for twin in (pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours)):
        assert all(isinstance(param, nn.Parameter) for param in twin.parameters())
        assert not {id(p) for p in twin.parameters()} & {id(p) for p in ours.parameters()}
        numpy.testing.assert_array_equal(twin.eval()(x).data, ours.eval()(x).data)


def test_losses_of_other_arguments_agree_with_pytorch():
    rng = numpy.random.default_rng(3)
    x, t, var = rng.standard_normal((4, 5)), rng.standard_normal((4, 5)), rng.uniform(0.5, 2, (4, 1))
    _close(
        nn.GaussianNLLLoss(full=True, eps=0.1)(x, t, var),
        torch.nn.GaussianNLLLoss(full=True, eps=0.1)(*map(torch.tensor, (x, t, var))),
    )
    _close(
        nn.KLDivLoss(reduction="batchmean")(x, abs(t)),
        torch.nn.KLDivLoss(reduction="batchmean")(torch.tensor(x), torch.tensor(abs(t))),
    )
    with pytest.warns(FutureWarning, match="NLLLoss2d has been deprecated"):
        older = nn.NLLLoss2d(ignore_index=2)
    image, classes = rng.standard_normal((2, 4, 3, 5)), rng.integers(0, 4, (2, 3, 5))
    assert older(image, classes) == nn.NLLLoss(ignore_index=2)(image, classes)
    with pytest.warns(UserWarning, match="size_average"):
        assert nn.MSELoss(False).reduction == "sum"


LOSSES = [
    ("MSELoss", {}, (4, 5), None),
    ("L1Loss", {}, (4, 5), None),
    ("SmoothL1Loss", dict(beta=0.3), (4, 5), None),
    ("HuberLoss", dict(delta=0.7), (4, 5), None),
    ("NLLLoss", {}, (6, 4), 4),
    ("NLLLoss", dict(weight=(4,), ignore_index=1), (2, 4, 3, 5), 4),
    ("CrossEntropyLoss", {}, (6, 4), 4),
    ("CrossEntropyLoss", dict(weight=(4,), ignore_index=2, label_smoothing=0.1), (2, 4, 3, 5), 4),
    ("CrossEntropyLoss", dict(label_smoothing=0.2), (6, 4), "probabilities"),
    ("BCELoss", dict(weight=(5,)), (4, 5), "share"),
    ("KLDivLoss", {}, (4, 5), "share"),
    ("KLDivLoss", dict(log_target=True), (4, 5), None),
    ("PoissonNLLLoss", dict(full=True), (4, 5), None),
    ("SoftMarginLoss", {}, (4, 5), "sign"),
    ("BCEWithLogitsLoss", {}, (4, 5), "share"),
    ("BCEWithLogitsLoss", dict(weight=(4, 1), pos_weight=(5,)), (4, 5), "share"),
]


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("case", LOSSES, ids=lambda c: c[0])
def test_loss_agrees_with_pytorch(case, reduction):
    name, kwargs, shape, classes = case
    rng = numpy.random.default_rng(3)
    data = rng.uniform(0.1, 0.9, shape) if name == "BCELoss" else rng.standard_normal(shape)
    if isinstance(classes, int):
        target = rng.integers(0, classes, (shape[0], *shape[2:]))
    else:
        target = rng.standard_normal(shape) if classes is None else rng.uniform(0, 1, shape)
        target = numpy.sign(target - 0.5) if classes == "sign" else target
    weights = {key: rng.uniform(0.5, 1.5, value) for key, value in kwargs.items() if isinstance(value, tuple)}
    ours = getattr(nn, name)(**{**kwargs, **weights}, reduction=reduction)
    theirs = getattr(torch.nn, name)(
        **{**kwargs, **{key: torch.tensor(value) for key, value in weights.items()}}, reduction=reduction
    )
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x, x_theirs = Tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    y, y_theirs = ours(x, Tensor(target)), theirs(x_theirs, torch.tensor(target))
    _close(y.data, y_theirs)
    dy = numpy.asarray(rng.standard_normal(y.shape))
    y.backward(dy)
    y_theirs.backward(torch.tensor(dy))
    _close(x.grad.data, x_theirs.grad)
    assert not isinstance(ours(data, target), Tensor)  # arrays in, arrays out
    numpy.testing.assert_array_equal(ours(data, target), y.data)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_max_pool_returns_pytorchs_indices(rank):
    data = numpy.random.default_rng(1).standard_normal((2, 3, *(7, 5, 6)[:rank]))
    for kind, args in (("MaxPool", (2,)), ("AdaptiveMaxPool", (3,))):
        name = f"{kind}{rank}d"
        y, indices = getattr(nn, name)(*args, return_indices=True)(data)
        y_theirs, indices_theirs = getattr(torch.nn, name)(*args, return_indices=True)(torch.tensor(data))
        numpy.testing.assert_array_equal(y, y_theirs.numpy())
        numpy.testing.assert_array_equal(indices, indices_theirs.numpy())


@pytest.mark.parametrize("size", [(9, 8), (10, 9), (2, 4, 9, 9), [10, 8]])
def test_transposed_convolution_of_a_wanted_size(size):
    ours, theirs = _build("ConvTranspose2d", (3, 4, 3), dict(stride=(2, 2), padding=(1, 1), dilation=(2, 1)))
    data = numpy.random.default_rng(1).standard_normal((2, 3, 4, 4))
    fitting = [s + o for s, o in zip((9, 7), (0, 0), strict=True)]
    wanted = [*size[:-2], fitting[0] + size[-2] % 2, fitting[1] + size[-1] % 2]
    y, y_theirs = ours(data, wanted), theirs(torch.tensor(data), wanted)
    _close(y.data, y_theirs)


def test_transposed_convolution_refuses_a_size_it_cannot_give():
    layer = nn.ConvTranspose2d(3, 4, 3, stride=2)
    x = numpy.zeros((2, 3, 4, 4), "float32")
    for size, error in (((9, 11), ShapeError), ((8, 9), ShapeError), ((9,), ShapeError), (9, DTypeError)):
        with pytest.raises(error):
            layer(x, size)


def test_pairs_of_padding_pytorch_does_not_have():
    layer = nn.Conv2d(2, 3, 3, padding=((1, 2), (0, 1)))
    assert layer(numpy.zeros((1, 2, 5, 5), "float32")).shape == (1, 3, 6, 4)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_layers_are_made_in_a_dtype(dtype):
    for layer in (nn.Linear(4, 3, dtype=dtype), nn.Conv2d(4, 3, 3, dtype=dtype), nn.BatchNorm2d(4, dtype=dtype)):
        assert {param.dtype.name for param in layer.parameters()} == {dtype}
        assert {b.dtype.name for b in layer.buffers()} <= {dtype, "int64"}


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(-1, 3),
        lambda: nn.Linear(2.5, 3),
        lambda: nn.Linear(2, 3, dtype="int64"),
        lambda: nn.Linear(2, 3, dtype="number"),
        lambda: nn.Linear(2, 3, device="tpu"),
        lambda: nn.Conv2d(3, 4, 3, groups=2),
        lambda: nn.Conv2d(4, 3, 3, groups=2),
        lambda: nn.Conv2d(4, 4, 3, groups=0),
        lambda: nn.Conv2d(3, 4, (3, 3, 3)),
        lambda: nn.Conv2d(3, 4, 0),
        lambda: nn.Conv2d(3, 4, 3, stride=0),
        lambda: nn.Conv2d(3, 4, 3, stride=2, padding="same"),
        lambda: nn.Conv2d(3, 4, 3, padding="full"),
        lambda: nn.Conv2d(3, 4, 3, padding=-1),
        lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror"),
        lambda: nn.ConvTranspose2d(3, 4, 3, padding="same"),
        lambda: nn.ConvTranspose2d(3, 4, 3, padding_mode="circular"),
        lambda: nn.BatchNorm2d(-1),
        lambda: nn.BatchNorm2d(3)(numpy.zeros((4, 3, 2), "float32")),
        lambda: nn.BatchNorm1d(3)(numpy.zeros((4, 3, 2, 2), "float32")),
        lambda: nn.BatchNorm1d(3)([1.0]),
        lambda: nn.InstanceNorm2d(3, affine=True)(numpy.zeros((2, 4, 5, 5), "float32")),
        lambda: nn.InstanceNorm2d(3)(numpy.zeros((2, 3), "float32")),
        lambda: nn.InstanceNorm2d(3)([1.0]),
        lambda: nn.LayerNorm(3.5),
        lambda: nn.LayerNorm((2, -1)),
        lambda: nn.LayerNorm((2, 3))(numpy.zeros((4, 3, 2), "float32")),
        lambda: nn.GroupNorm(2, 5),
        lambda: nn.GroupNorm(0, 5),
        lambda: nn.GroupNorm(2.0, 4),
        lambda: nn.Dropout(1.5),
        lambda: nn.MSELoss(reduction="average"),
        lambda: nn.CrossEntropyLoss(label_smoothing=2),
        lambda: nn.CrossEntropyLoss(weight=[1.0, 2.0]),
        lambda: nn.Parameter([1.0]),
        lambda: nn.Parameter(numpy.zeros(3, "int64")),
    ],
)
def test_refusals(make):
    with pytest.raises(FastconvError):
        make()


def test_a_refused_batch_does_not_count():
    layer = nn.BatchNorm2d(3)
    with pytest.raises(ShapeError):
        layer(numpy.zeros((2, 4, 5, 5), "float32"))
    assert layer.num_batches_tracked.item() == 0


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="with CuPy there may be a GPU to move to")
def test_gpu_is_refused_without_cupy():
    with pytest.raises(DeviceError):
        nn.Linear(2, 3).to("cuda")


@pytest.mark.parametrize("name", [name for name in nn.__all__ if inspect.isclass(getattr(nn, name))])
def test_every_module_has_its_own_help(name):
    cls = getattr(nn, name)
    assert "__doc__" in vars(cls)
    assert cls.__doc__.strip()
    parameters = inspect.signature(cls).parameters
    assert not any(p.kind is p.VAR_KEYWORD for p in parameters.values()) or name == "Identity"
    for parameter in parameters:
        if parameter not in ("args", "kwargs", "modules"):
            assert parameter in cls.__doc__, parameter
    if name not in ("Module", "Parameter", "Sequential", "ModuleList", "ModuleDict", "Identity", "NLLLoss2d", *OURS):
        theirs = inspect.signature(getattr(torch.nn, name)).parameters
        # What PyTorch added since (bias) is not here.
        shared = [p for p in theirs if p in parameters]
        assert shared == list(parameters)
        for parameter in shared:
            assert theirs[parameter].default == parameters[parameter].default, parameter
