"""Module and its containers: registration, walking, state, hooks."""

import pickle
from collections import OrderedDict

import numpy
import pytest
import torch

from fastconv import Tensor, nn
from fastconv.errors import DTypeError, ShapeError


class Block(nn.Module):
    """A few layers, one of them shared, and state of both kinds."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.body = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), self.first)
        self.scale = nn.Parameter(numpy.ones(1, "float32"))
        self.register_buffer("kept", numpy.zeros(2, "float32"))
        self.register_buffer("lost", numpy.zeros(2, "float32"), persistent=False)
        self.register_buffer("none", None)
        self.register_parameter("nothing", None)

    def forward(self, input):
        return self.body(input) * self.scale


def _torch_block():
    """The same block of PyTorch."""
    block = torch.nn.Module()
    block.first = torch.nn.Linear(3, 3)
    block.body = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU(), block.first)
    block.scale = torch.nn.Parameter(torch.ones(1))
    block.register_buffer("kept", torch.zeros(2))
    block.register_buffer("lost", torch.zeros(2), persistent=False)
    block.register_buffer("none", None)
    block.register_parameter("nothing", None)
    return block


def test_walks_are_pytorchs():
    ours, theirs = Block(), _torch_block()
    for options in ({}, {"recurse": False}, {"prefix": "net"}, {"remove_duplicate": False}):
        names = [name for name, _ in ours.named_parameters(**options)]
        assert names == [name for name, _ in theirs.named_parameters(**options)]
        assert [n for n, _ in ours.named_buffers(**options)] == [n for n, _ in theirs.named_buffers(**options)]
    assert [n for n, _ in ours.named_modules()] == [n for n, _ in theirs.named_modules()]
    every = [n for n, _ in theirs.named_modules(remove_duplicate=False)]
    assert [n for n, _ in ours.named_modules(remove_duplicate=False)] == every
    assert [n for n, _ in ours.named_children()] == [n for n, _ in theirs.named_children()]
    assert len(list(ours.parameters())) == len(list(theirs.parameters())) == 5
    assert len(list(ours.modules())) == 5
    assert len(list(ours.children())) == 2
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert list(ours.state_dict(prefix="net.")) == list(theirs.state_dict(prefix="net."))


def test_repr_is_pytorchs():
    def build(library):
        return library.Sequential(
            OrderedDict(
                conv=library.Conv2d(1, 2, 3),
                rest=library.ModuleList([library.ReLU(), library.Sequential()]),
                named=library.ModuleDict({"a": library.Identity()}),
            )
        )

    assert repr(build(nn)) == repr(build(torch.nn))


def test_lookup_by_path():
    block = Block()
    assert block.get_submodule("") is block
    assert block.get_submodule("body.2") is block.first
    assert block.get_parameter("body.0.weight") is block.body[0].weight
    assert block.get_buffer("kept") is block.kept
    for look in (lambda: block.get_submodule("body.7"), lambda: block.get_parameter("body.0.kept"), lambda: block.no):
        with pytest.raises(AttributeError):
            look()


def test_assignment_registers_and_replaces():
    module = nn.Module()
    module.thing = 3
    module.thing = nn.Parameter(numpy.zeros(2))
    assert "thing" in dict(module.named_parameters())
    assert "thing" not in vars(module)
    module.thing = nn.ReLU()
    assert not list(module.parameters())
    assert [name for name, _ in module.named_children()] == ["thing"]
    module.thing = None
    assert module.thing is None
    assert not list(module.children())
    del module.thing
    module.thing = nn.Parameter(numpy.zeros(2))
    module.thing = None
    assert dict(module.named_parameters()) == {}
    module.register_buffer("state", numpy.zeros(2))
    module.state = numpy.ones(3)
    assert isinstance(module.state, Tensor)
    assert module.state_dict()["state"].shape == (3,)
    assert "state" in dir(module)
    del module.state
    assert not hasattr(module, "state")
    with pytest.raises(AttributeError):
        del module.state


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda m: setattr(m, "first", 3), DTypeError),
        (lambda m: setattr(m, "scale", Tensor(numpy.ones(1))), DTypeError),
        (lambda m: setattr(m, "kept", "text"), DTypeError),
        (lambda m: m.register_parameter("a.b", None), ShapeError),
        (lambda m: m.register_parameter("", None), ShapeError),
        (lambda m: m.register_parameter(3, None), DTypeError),
        (lambda m: m.register_parameter("forward", None), ShapeError),
        (lambda m: m.register_parameter("p", numpy.zeros(2)), DTypeError),
        (lambda m: m.register_buffer("first", None), ShapeError),
        (lambda m: m.register_buffer("b", [1.0]), DTypeError),
        (lambda m: m.add_module("m", numpy.zeros(2)), DTypeError),
        (lambda m: m.add_module("a.b", nn.ReLU()), ShapeError),
    ],
)
def test_refused_registrations(change, error):
    with pytest.raises(error):
        change(Block())


@pytest.mark.parametrize("value", [nn.Parameter(numpy.zeros(2)), nn.ReLU()])
def test_forgotten_init_is_named(value):
    class Forgetful(nn.Module):
        def __init__(self):
            self.thing = value

    with pytest.raises(AttributeError, match=r"super\(\).__init__\(\)"):
        Forgetful()


def test_no_forward():
    with pytest.raises(NotImplementedError, match="forward"):
        nn.Module()(3)


def test_train_reaches_children_through_their_own_train():
    class Frozen(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(False)

    net = nn.Sequential(Frozen(3), nn.Dropout())
    assert net.train() is net
    assert not net[0].training
    assert net[1].training
    assert not net.eval()[1].training


def test_to_converts_in_place_what_is_floating():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    params = list(net.parameters())
    net[0].weight.grad = Tensor(numpy.ones_like(net[0].weight.data))
    for convert, name in (
        (lambda: net.double(), "float64"), (lambda: net.half(), "float16"), (lambda: net.float(), "float32"),
        (lambda: net.bfloat16(), "bfloat16"), (lambda: net.to("float64"), "float64"),
        (lambda: net.to(numpy.float32), "float32"), (lambda: net.to("cpu", "float16"), "float16"),
    ):  # fmt: skip
        assert convert() is net
        assert all(p is q for p, q in zip(params, net.parameters(), strict=True))
        assert {p.dtype.name for p in params} == {name}
        assert net[0].weight.grad.dtype.name == name
        assert {b.dtype.name for b in net.buffers()} == {name, "int64"}
    assert net.cpu() is net
    for wrong in ("int64", "cpux", "cuda:x", 3):
        with pytest.raises((DTypeError, ShapeError)):
            net.to(wrong)


def test_zero_grad_and_requires_grad():
    layer = nn.Linear(2, 2)
    layer.weight.grad = Tensor(numpy.full((2, 2), numpy.nan, "float32"))
    layer.zero_grad(set_to_none=False)
    assert not layer.weight.grad.data.any()
    layer.zero_grad()
    assert layer.weight.grad is None
    assert layer.requires_grad_(False) is layer
    assert not any(param.requires_grad for param in layer.parameters())


def test_apply_goes_children_first():
    seen = []
    block = Block()
    assert block.apply(seen.append) is block
    assert seen[-1] is block
    assert seen[0] is block.first


def test_hooks():
    layer = nn.Linear(2, 2)
    x = numpy.ones((1, 2), "float32")
    plain = layer(x).data
    calls = []
    doubled = layer.register_forward_pre_hook(lambda module, args: calls.append("pre") or args[0] * 2)
    layer.register_forward_pre_hook(lambda module, args: calls.append("first"), prepend=True)
    watching = layer.register_forward_hook(lambda module, args, output: calls.append(output.shape))
    twice = layer(x).data
    assert calls == ["first", "pre", (1, 2)]
    doubled.remove()
    doubled.remove()
    assert numpy.array_equal(layer(x).data, plain)
    with layer.register_forward_hook(lambda module, args, kwargs, output: kwargs, with_kwargs=True):
        assert layer(input=x) == {"input": x}
    replaced = layer.register_forward_pre_hook(lambda module, args, kwargs: ((x * 2,), {}), with_kwargs=True)
    assert numpy.array_equal(layer(input=x).data, twice)
    replaced.remove()
    watching.remove()
    assert numpy.array_equal(layer(x).data, plain)


def test_state_dict_shares_the_arrays_and_loading_keeps_them():
    layer = nn.Linear(2, 2)
    state = layer.state_dict()
    assert state["weight"] is layer.weight.data
    array = layer.weight.data
    layer.load_state_dict({"weight": numpy.full((2, 2), 3.0), "bias": Tensor(numpy.zeros(2, "float16"))})
    assert layer.weight.data is array
    assert array.dtype == "float32"
    assert (array == 3).all()
    assert not layer.bias.data.any()


def test_state_dict_goes_through_a_file(tmp_path):
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    net[1].num_batches_tracked.data[...] = 5
    numpy.savez(tmp_path / "net.npz", **net.state_dict())
    other = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    with numpy.load(tmp_path / "net.npz") as saved:
        assert other.load_state_dict(saved) == ([], [])
    for key, array in net.state_dict().items():
        assert numpy.array_equal(array, other.state_dict()[key])
    assert other[1].num_batches_tracked.item() == 5


def test_every_fault_of_a_state_dict_is_named_and_nothing_is_loaded():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4), nn.BatchNorm1d(4))
    state = {key: array + 1 for key, array in net.state_dict().items()}
    before = {key: array.copy() for key, array in net.state_dict().items()}
    del state["0.bias"], state["2.running_mean"]
    state.update({"3.extra": numpy.zeros(1), "other": numpy.zeros(1), "1.weight": numpy.zeros((3, 4))})
    state["1.bias"] = torch.zeros(4)
    with pytest.raises(ShapeError) as caught:
        net.load_state_dict(state)
    for part in ("0.bias", "2.running_mean", "3.extra", "other", "1.weight [3, 4] for a shape [4, 3]", "1.bias torch"):
        assert part in str(caught.value), part
    assert all(numpy.array_equal(before[key], array) for key, array in net.state_dict().items())
    with pytest.raises(ShapeError):  # shapes matter without strict too, as in PyTorch
        net.load_state_dict(state, strict=False)
    del state["1.weight"], state["1.bias"]
    result = net.load_state_dict(state, strict=False)
    assert result.missing_keys == ["0.bias", "1.weight", "1.bias", "2.running_mean"]
    assert result.unexpected_keys == ["3.extra", "other"]
    assert numpy.array_equal(net[0].weight.data, before["0.weight"] + 1)
    with pytest.raises(DTypeError):
        net.load_state_dict([1, 2])


def test_num_batches_tracked_may_be_missing_as_in_pytorch():
    state = {key: array for key, array in nn.BatchNorm1d(4).state_dict().items() if key != "num_batches_tracked"}
    assert nn.BatchNorm1d(4).load_state_dict(state) == ([], [])


def test_parameter():
    data = numpy.ones(2)
    param = nn.Parameter(Tensor(data))
    assert param.data is data
    assert param.requires_grad
    assert not nn.Parameter(numpy.ones(2, "int64"), requires_grad=False).requires_grad
    assert repr(param) == "Parameter containing:\ntensor([1., 1.], requires_grad=True)"
    twin = pickle.loads(pickle.dumps(nn.Parameter(data, requires_grad=False)))
    assert isinstance(twin, nn.Parameter)
    assert not twin.requires_grad


def test_sequential():
    parts = [nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4)]
    net = nn.Sequential(*parts)
    assert list(net) == parts
    assert net[0] is parts[0]
    assert net[-1] is parts[2]
    assert list(net[1:]) == parts[1:]
    assert list(net[1:].state_dict()) == ["2.weight", "2.bias"]  # PyTorch keeps the names of a slice
    x = numpy.ones((1, 2), "float32")
    assert numpy.array_equal(net(x).data, parts[2](parts[1](parts[0](x))).data)
    net[1] = nn.Tanh()
    assert isinstance(net[1], nn.Tanh)
    net.insert(1, nn.Identity())
    assert [type(m).__name__ for m in net] == ["Linear", "Identity", "Tanh", "Linear"]
    del net[1]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert net.pop(-1) is parts[2]
    assert net.append(parts[2]) is net
    net.extend([nn.ReLU(), nn.Identity()])
    del net[3:]
    assert len(net) == 3
    named = nn.Sequential(OrderedDict(a=parts[0], b=parts[1]))
    assert list(named.state_dict()) == ["a.weight", "a.bias"]
    assert named.a is parts[0]
    for wrong, error in ((lambda: net[3], IndexError), (lambda: net["0"], DTypeError)):
        with pytest.raises(error):
            wrong()
    with pytest.raises(DTypeError):
        nn.Sequential(numpy.tanh)


def test_module_list():
    parts = [nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4)]
    row = nn.ModuleList(parts)
    assert list(row.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert list(row[1:].state_dict()) == ["1.weight", "1.bias"]  # and counts anew in a list
    row += [nn.Tanh()]
    assert len(row) == 4
    assert len(row.__add__([nn.Tanh()])) == 5
    assert isinstance(row.pop(-1), nn.Tanh)
    row.insert(0, nn.Tanh())
    assert list(row)[1:] == parts
    with pytest.raises(DTypeError):
        row.extend(3)
    with pytest.raises(NotImplementedError):
        row(3)


def test_module_dict():
    relu, tanh = nn.ReLU(), nn.Tanh()
    named = nn.ModuleDict({"relu": relu})
    named["tanh"] = tanh
    named.update([("line", nn.Linear(2, 2))])
    assert list(named) == list(named.keys()) == ["relu", "tanh", "line"]
    assert list(named.state_dict()) == ["line.weight", "line.bias"]
    assert dict(named.items())["relu"] is named["relu"] is relu
    assert "tanh" in named
    assert named.pop("tanh") is tanh
    del named["relu"]
    assert [type(m).__name__ for m in named.values()] == ["Linear"]
    assert list(nn.ModuleDict(named)) == ["line"]
    named.clear()
    assert len(named) == 0
    for wrong, error in ((3, DTypeError), ([("a", nn.ReLU(), 3)], ShapeError), ({"a.b": nn.ReLU()}, ShapeError)):
        with pytest.raises(error):
            named.update(wrong)
