"""Geometry: output sizes against PyTorch's own, and every refusal."""

import numpy as np
import pytest

from fastconv.errors import DTypeError, ShapeError
from fastconv.window import Window, adaptive_output

torch = pytest.importorskip("torch", reason="PyTorch is the specification of output sizes")


def images(*shape, dtype="float32"):
    return np.zeros(shape, dtype)


def conv(x, w, b=None, stride=1, padding=0, dilation=1, groups=1, rank=2):
    return Window.conv(x, w, b, stride, padding, dilation, groups, rank)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("size", [5, 8, 11])
@pytest.mark.parametrize("kernel", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 5])
@pytest.mark.parametrize("padding", [0, 1, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_conv_output_size_is_pytorchs(rank, size, kernel, stride, padding, dilation):
    x, w = images(2, 3, *[size] * rank), images(4, 3, *[kernel] * rank)
    window = conv(x, w, None, stride, padding, dilation, rank=rank)
    function = [torch.conv1d, torch.conv2d, torch.conv3d][rank - 1]
    y = function(torch.from_numpy(x), torch.from_numpy(w), None, stride, padding, dilation)
    assert window.output_shape == tuple(y.shape)
    assert window.input_shape == x.shape
    assert window.weight_shape == w.shape
    assert window.three_axes().output == (1,) * (3 - rank) + window.output


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("output_padding", [0, 1, 2])
@pytest.mark.parametrize("dilation", [1, 3])
def test_transposed_output_size_is_pytorchs(stride, padding, output_padding, dilation):
    if output_padding >= max(stride, dilation):
        pytest.skip("refused, and tested below")
    x, w = images(2, 6, 4, 5), images(6, 2, 3, 3)
    window = Window.conv_transpose(x, w, None, stride, padding, output_padding, 2, dilation, 2)
    y = torch.conv_transpose2d(
        torch.from_numpy(x), torch.from_numpy(w), None, stride, padding, output_padding, 2, dilation
    )
    assert window.input_shape == tuple(y.shape)
    assert window.output_shape == x.shape


@pytest.mark.parametrize("size", [4, 5, 7, 10])
@pytest.mark.parametrize("kernel", [2, 3, 4])
@pytest.mark.parametrize("stride", [None, 1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_pool_output_size_is_pytorchs(size, kernel, stride, padding, dilation, ceil_mode):
    x = images(1, 2, size, size + 1)

    def theirs():
        return torch.max_pool2d(torch.from_numpy(x), kernel, stride or kernel, padding, dilation, ceil_mode)

    def ours():
        return Window.pool("max_pool2d", x, kernel, stride, padding, dilation, ceil_mode, 2)

    try:
        expected = tuple(theirs().shape)
    except RuntimeError:
        with pytest.raises(ShapeError):
            ours()
    else:
        assert ours().output_shape == expected


def test_padding_is_spelt_in_every_way():
    x, w = images(1, 1, 8, 9), images(1, 1, 3, 4)
    assert conv(x, w, padding="valid").padding == ((0, 0), (0, 0))
    assert conv(x, w, padding="same").padding == ((1, 1), (1, 2))
    assert conv(x, w, padding="same").output == (8, 9)
    assert conv(x, w, padding=2).padding == ((2, 2), (2, 2))
    assert conv(x, w, padding=(1, 2)).padding == ((1, 1), (2, 2))
    assert conv(x, w, padding=[1]).padding == ((1, 1), (1, 1))
    assert conv(x, w, padding=((1, 2), (0, 1))).padding == ((1, 2), (0, 1))
    assert conv(x, w, padding=((1, 2), (0, 1))).output == (9, 7)
    assert conv(images(1, 1, 8), images(1, 1, 3), padding=((2, 0),), rank=1).output == (8,)
    assert conv(x, w, padding=np.int64(1)).padding == ((1, 1), (1, 1))


X, W = images(2, 4, 6, 6), images(8, 4, 3, 3)


@pytest.mark.parametrize(
    ("error", "argument", "arguments"),
    [
        (ShapeError, "input", dict(x=images(4, 4))),
        (ShapeError, "weight", dict(w=images(8, 4, 3))),
        (ShapeError, "weight", dict(w=images(8, 3, 3, 3))),
        (ShapeError, "weight", dict(w=images(8, 4, 7, 3))),
        (ShapeError, "weight", dict(w=images(8, 4, 0, 3))),
        (ShapeError, "weight", dict(w=images(0, 4, 3, 3))),
        (ShapeError, "bias", dict(b=images(7))),
        (ShapeError, "bias", dict(b=images(8, 1))),
        (ShapeError, "groups", dict(groups=3)),
        (ShapeError, "groups", dict(groups=0)),
        (ShapeError, "groups", dict(x=images(2, 16, 6, 6), groups=16)),
        (ShapeError, "stride", dict(stride=0)),
        (ShapeError, "stride", dict(stride=(1, -2))),
        (ShapeError, "stride", dict(stride=10**30)),
        (ShapeError, "stride", dict(stride=(1, 1, 1))),
        (ShapeError, "stride", dict(stride=2, padding="same")),
        (ShapeError, "dilation", dict(dilation=0)),
        (ShapeError, "weight", dict(dilation=3)),
        (ShapeError, "output", dict(padding=2**30)),
        (ShapeError, "padding", dict(padding=-1)),
        (ShapeError, "padding", dict(padding=2**31)),
        (ShapeError, "padding", dict(padding="full")),
        (ShapeError, "padding", dict(padding=((1, 2),))),
        (ShapeError, "padding", dict(padding=((1, 2), 3))),
        (ShapeError, "padding", dict(padding=((1, 2), (1, 2, 3)))),
        (DTypeError, "padding", dict(padding=1.5)),
        (DTypeError, "stride", dict(stride="1")),
        (DTypeError, "stride", dict(stride=True)),
        (DTypeError, "groups", dict(groups=2.0)),
        (DTypeError, "input", dict(x=images(2, 4, 6, 6, dtype="int64"))),
        (DTypeError, "input", dict(x=images(2, 4, 6, 6, dtype="complex64"))),
        (DTypeError, "input", dict(x=images(2, 4, 6, 6, dtype="object"))),
        (DTypeError, "input", dict(x=[[1.0]])),
        (DTypeError, "input", dict(x=None)),
        (DTypeError, "input", dict(x=np.ma.masked_array(X))),
        (DTypeError, "weight", dict(w=images(8, 4, 3, 3, dtype="float64"))),
        (DTypeError, "bias", dict(b=images(8, dtype="float64"))),
        (DTypeError, "bias", dict(b=3.0)),
    ],
)
def test_conv_refuses(error, argument, arguments):
    with pytest.raises(error) as caught:
        conv(**{"x": X, "w": W, **arguments})
    assert caught.value.operator == "conv2d"
    assert caught.value.argument == argument
    assert str(caught.value).startswith(f"conv2d: {argument}: got ")
    assert ", expected " in str(caught.value)


@pytest.mark.parametrize(
    ("error", "argument", "arguments"),
    [
        (ShapeError, "weight", dict(w=images(3, 2, 3, 3))),
        (ShapeError, "groups", dict(groups=3)),
        (ShapeError, "bias", dict(b=images(4))),
        (ShapeError, "output_padding", dict(output_padding=1)),
        (ShapeError, "output_padding", dict(output_padding=-1)),
        (ShapeError, "padding", dict(padding=4)),
        (ShapeError, "input", dict(x=images(2, 4, 0, 6))),
        (DTypeError, "padding", dict(padding="same")),
        (DTypeError, "output_padding", dict(output_padding=None)),
    ],
)
def test_conv_transpose_refuses(error, argument, arguments):
    given = dict(x=X, w=images(4, 2, 3, 3), b=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1)
    given.update(arguments)
    with pytest.raises(error) as caught:
        Window.conv_transpose(*given.values(), rank=2)
    assert (caught.value.operator, caught.value.argument) == ("conv_transpose2d", argument)


@pytest.mark.parametrize(
    ("error", "argument", "arguments"),
    [
        (ShapeError, "kernel_size", dict(kernel_size=7)),
        (ShapeError, "kernel_size", dict(kernel_size=0)),
        (ShapeError, "padding", dict(padding=2)),
        (ShapeError, "padding", dict(padding=((0, 2), (0, 0)))),
        (ShapeError, "stride", dict(stride=0)),
        (ShapeError, "input", dict(input=images(2, 4, 0, 6))),
        (DTypeError, "kernel_size", dict(kernel_size=None)),
        (DTypeError, "input", dict(input=images(2, 4, 6, 6, dtype="int32"))),
    ],
)
def test_pool_refuses(error, argument, arguments):
    given = dict(input=X, kernel_size=3, stride=None, padding=0, dilation=1, ceil_mode=False)
    given.update(arguments)
    with pytest.raises(error) as caught:
        Window.pool("max_pool2d", *given.values(), rank=2)
    assert (caught.value.operator, caught.value.argument) == ("max_pool2d", argument)


def test_adaptive_output():
    assert adaptive_output("adaptive_avg_pool2d", X, (None, 3), 2) == (6, 3)
    assert adaptive_output("adaptive_avg_pool2d", X, 2, 2) == (2, 2)
    assert adaptive_output("adaptive_avg_pool2d", X, 0, 2) == (0, 0)
    for size, error in [((1, 2, 3), ShapeError), (-1, ShapeError), (1.5, DTypeError)]:
        with pytest.raises(error):
            adaptive_output("adaptive_avg_pool2d", X, size, 2)
    with pytest.raises(ShapeError):
        adaptive_output("adaptive_avg_pool2d", images(1, 1, 0, 2), 1, 2)


def test_zero_batch_and_zero_channels_are_windows():
    assert conv(images(0, 4, 6, 6), W).output_shape == (0, 8, 4, 4)
    assert conv(images(2, 0, 6, 6), images(8, 0, 3, 3)).output_shape == (2, 8, 4, 4)


def test_what_is_remembered_is_refused_all_the_same():
    x, w = images(1, 2, 5, 5), images(2, 2, 3, 3)
    assert conv(x, w, stride=1, groups=1) is conv(x, w, stride=1, groups=1)
    assert conv(x, w, stride=[1, 1]) == conv(x, w, stride=(1, 1)) == conv(x, w, stride=np.int64(1))
    for stride in (True, 1.0, (1, True), (1.0, 1)):
        with pytest.raises(DTypeError, match="stride"):
            conv(x, w, stride=stride)
    for _ in range(2):  # a refusal is not remembered in place of a Window
        with pytest.raises(ShapeError, match="kernel that spans"):
            conv(x, images(2, 2, 7, 3))
        with pytest.raises(DTypeError, match="weight"):
            conv(x, w.astype("float64"))
        assert Window.pool("max_pool2d", x, 2, None, 0, 1, False, 2).output == (2, 2)
        assert Window.pool("max_pool2d", x, 2, None, 0, 1, True, 2).output == (3, 3)
        with pytest.raises(DTypeError, match="kernel_size"):
            Window.pool("max_pool2d", x, (2, 2.0), None, 0, 1, False, 2)
