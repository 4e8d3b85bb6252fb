"""ParameterList and ParameterDict beside PyTorch's."""

import numpy as np
import pytest
import torch

from fastconv import nn, tensor
from fastconv.errors import DTypeError, ShapeError


def _model(library, make):
    class Model(library.Module):
        def __init__(self):
            super().__init__()
            self.row = library.ParameterList([make(2, 3), make(4)])
            self.named = library.ParameterDict({"scale": make(1), "shift": make(2)})

    return Model()


def test_state_dict_is_pytorchs():
    mine = _model(nn, lambda *shape: np.zeros(shape, "float32"))
    theirs = _model(torch.nn, torch.zeros)
    assert {k: v.shape for k, v in mine.state_dict().items()} == {
        k: tuple(v.shape) for k, v in theirs.state_dict().items()
    }
    assert [name for name, _ in mine.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    assert all(isinstance(p, nn.Parameter) and p.requires_grad for p in mine.parameters())
    assert "(0): Parameter containing: [float32 of size 2x3]" in repr(mine.row)
    assert "(scale): Parameter containing: [float32 of size 1]" in repr(mine.named)


def test_list():
    first = nn.Parameter(np.ones(2, "float32"))
    row = nn.ParameterList([first])
    assert row.append(tensor(np.zeros(3, "float32"))) is row
    row += [np.arange(2)]  # integers cannot be learned
    assert [p.requires_grad for p in row] == [True, True, False]
    assert row[0] is first
    assert row[-1] is row[2]
    assert list(row[:2]) == list(row)[:2]
    row[-2] = first
    assert row[1] is first
    assert len(row) == 3
    with pytest.raises(IndexError, match="ParameterList: index: got 3"):
        row[3]
    for wrong in (3, first, ["text"], [None]):
        with pytest.raises(DTypeError):
            row.extend(wrong)
    with pytest.raises(DTypeError):
        row["a"]


def test_dict():
    scale = nn.Parameter(np.ones(1, "float32"))
    named = nn.ParameterDict([("scale", scale)])
    named["shift"] = np.zeros(1, "float32")
    assert list(named) == list(named.keys()) == ["scale", "shift"]
    assert list(reversed(named)) == ["shift", "scale"]
    assert named["scale"] is scale
    assert dict(named.items())["shift"] is list(named.values())[1]
    assert "shift" in named
    assert named.get("other") is None
    assert named.setdefault("scale", np.zeros(1)) is scale
    assert named.setdefault("other", np.zeros(4)).shape == (4,)
    assert named.popitem()[0] == "other"
    assert named.pop("scale") is scale
    del named["shift"]
    named.update(nn.ParameterDict({"a": scale}))
    assert list(nn.ParameterDict(named)) == ["a"]
    named.clear()
    assert len(named) == 0
    for wrong, error in (
        (3, DTypeError), ([("a", scale, 3)], ShapeError), ({"a.b": scale}, ShapeError), ({"a": "text"}, DTypeError),
    ):  # fmt: skip
        with pytest.raises(error):
            named.update(wrong)


def test_parameters_of_containers_learn():
    row = nn.ParameterList([np.ones(3, "float32")])
    (row[0] * 2).sum().backward()
    np.testing.assert_array_equal(row[0].grad.numpy(), np.full(3, 2, "float32"))
