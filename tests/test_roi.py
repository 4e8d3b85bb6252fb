"""roi_align and roi_pool: known values, loops over single elements, gradients, volumes and bad input."""

import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import fastconv.functional as F
from fastconv import autograd, backend, ops
from fastconv.cases import loops
from fastconv.cpu.threads import num_threads
from fastconv.creation import tensor
from fastconv.errors import DTypeError, ShapeError
from tests.emulation import SCHEDULES, require, schedule
from tests.gradients import check_gradients

RULES = [(1.0, -1, False), (0.6, -1, True), (1.0, 2, False), (1.4, 3, True)]


@pytest.fixture(params=["cpu", "reference", "emulated"])
def on(request):
    if request.param == "emulated":
        require("plain")
    with backend.use_backend(request.param):
        yield request.param


def images(*shape, seed=0, dtype="float64"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def last(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def regions(count, batch, size, seed=1, dtype="float64"):
    """Inside the image, across its edges and outside; some without extent."""
    rng = np.random.default_rng(seed)
    extent = np.array(size[::-1])
    low = rng.uniform(-0.4, 1.0, (count, len(size))) * extent
    high = low + rng.uniform(-0.1, 0.8, low.shape) * extent
    return np.concatenate([rng.integers(0, batch, (count, 1)), low, high], axis=1).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_align_by_loops(on, rule, dtype):
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    for size, output in [((6, 8), (2, 3)), ((3, 5, 4), (2, 2, 3))]:
        x, rois = images(2, 3, *size, dtype=dtype), regions(6, 2, size, dtype=dtype)
        expected = loops.roi_align_forward(x, rois, output, *rule)
        for stored in (x, last(x)):
            y = F.roi_align(stored, rois, output, *rule)
            assert y.dtype == x.dtype
            np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)
        dy = images(*y.shape, dtype=dtype)
        leaf = tensor(x, requires_grad=True)
        F.roi_align(leaf, rois, output, *rule).backward(tensor(dy))
        expected = loops.roi_align_input_grad(dy, rois, 2, size, *rule)
        np.testing.assert_allclose(leaf.grad.numpy(), expected, rtol=10 * tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("scale", [1.0, 0.6])
def test_pool_by_loops(on, scale):
    for size, output in [((6, 8), (2, 3)), ((6, 8), (7, 5)), ((3, 5, 4), (2, 2, 3))]:
        x, rois = images(2, 3, *size), regions(6, 2, size)
        rois[0, 1:] = np.resize([0.5, 1.5, 2.5, -0.5], 2 * len(size)) / scale  # halves are rounded away from zero
        expected, indices = loops.roi_pool_forward(x, rois, output, scale)
        for stored in (x, last(x)):
            np.testing.assert_array_equal(F.roi_pool(stored, rois, output, scale), expected)
        leaf = tensor(x, requires_grad=True)
        y = F.roi_pool(leaf, rois, output, scale)
        dy = images(*y.shape)
        y.backward(tensor(dy))
        expected = loops.roi_pool_input_grad(dy, rois, indices, 2, size, scale)
        np.testing.assert_allclose(leaf.grad.numpy(), expected, rtol=1e-12, atol=1e-14)


def test_a_plane_is_sampled_exactly(on):
    """Linear interpolation of a linear image is that image: averages of bins are its values at their centres."""
    z, y, x = np.meshgrid(np.arange(9.0), np.arange(12.0), np.arange(10.0), indexing="ij")
    volume = (3 * x - 2 * y + 5 * z + 1)[None, None]
    rois = np.array([[0, 1.5, 2.25, 3.0, 7.5, 8.25, 6.0]])
    for ratio in (-1, 1, 4):
        found = F.roi_align(volume, rois, (2, 3, 4), 1.0, ratio)
        centres = [
            low + (np.arange(n) + 0.5) * (high - low) / n
            for low, high, n in ((3, 6, 2), (2.25, 8.25, 3), (1.5, 7.5, 4))
        ]
        q, p, o = np.meshgrid(centres[2], centres[1], centres[0], indexing="ij")
        expected = (3 * q - 2 * p + 5 * o + 1).transpose(2, 1, 0)
        np.testing.assert_allclose(found[0, 0], expected, rtol=1e-12)
        plane = F.roi_align(volume[:, :, 2], rois[:, [0, 1, 2, 4, 5]] + 0.5, (3, 4), 1.0, ratio, aligned=True)
        shifted = np.array([[0, 1.5, 2.25, 7.5, 8.25]])
        np.testing.assert_allclose(plane, F.roi_align(volume[:, :, 2], shifted, (3, 4), 1.0, ratio), rtol=1e-12)


def test_known_values(on):
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    whole = np.array([[0.0, 0, 0, 3, 3]])
    np.testing.assert_array_equal(F.roi_pool(x, whole, 2), [[[[5, 7], [13, 15]]]])
    np.testing.assert_array_equal(F.roi_pool(x, whole, (1, 3)), [[[[13, 14, 15]]]])
    np.testing.assert_allclose(
        F.roi_align(x, np.array([[0.0, 0, 0, 4, 4]]), 2, 1.0, 2, True), [[[[2.5, 4.5], [10.5, 12.5]]]]
    )
    np.testing.assert_allclose(F.roi_align(x, np.array([[0.0, 1, 2, 1, 2]]), 1, 1.0, 1), [[[[11.5]]]])
    np.testing.assert_array_equal(F.roi_align(x, np.array([[0.0, 1, 2, 1, 2]]), 1, 1.0, -1, True), [[[[0]]]])
    np.testing.assert_array_equal(F.roi_pool(x, np.array([[0.0, 9, 9, 12, 12]]), 1), [[[[0]]]])


def test_gradients_twice():
    for size, output in [((5, 6), (2, 3)), ((2, 4, 3), (1, 2, 2))]:
        x, rois = images(2, 2, *size), regions(4, 2, size)
        check_gradients(lambda v, r=rois, o=output: F.roi_align(v, r, o, 0.9, 2, True), x)
        check_gradients(lambda v, r=rois, o=output: F.roi_pool(v, r, o, 0.9), x)
        leaf, dy = tensor(x, requires_grad=True), tensor(images(4, 2, *output), requires_grad=True)
        for function in (F.roi_align, F.roi_pool):
            (dx,) = autograd.grad(function(leaf, rois, output), leaf, dy, create_graph=True)
            direction = images(*x.shape, seed=3)
            (ddy,) = autograd.grad((dx * direction).sum(), dy)
            assert ddy.shape == dy.shape
            np.testing.assert_allclose(np.vdot(ddy.numpy(), dy.data), np.vdot(dx.data, direction), rtol=1e-12)


def test_lists_of_boxes(on):
    x, rois = images(3, 2, 5, 6), regions(5, 3, (5, 6))
    rois = rois[np.argsort(rois[:, 0], kind="stable")]
    parts = [rois[rois[:, 0] == n, 1:] for n in range(3)]
    for function in (F.roi_align, F.roi_pool):
        expected = function(x, rois, 2)
        np.testing.assert_array_equal(function(x, parts, 2), expected)
        assert isinstance(function(x, [tensor(p) for p in parts], 2), autograd.Tensor)
        np.testing.assert_array_equal(function(x, parts[:2], 2), expected[: len(parts[0]) + len(parts[1])])
        assert isinstance(function(x, tensor(rois, requires_grad=True), 2), autograd.Tensor)


def test_many_images_of_halves():
    x = np.arange(300.0).reshape(300, 1, 1, 1).astype(ml_dtypes.bfloat16)
    y = F.roi_pool(x, [np.zeros((1, 4), ml_dtypes.bfloat16)] * 300, 1)
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16])
def test_halves_are_rounded_once(on, dtype):
    x, rois = images(2, 3, 6, 7).astype(dtype), regions(4, 2, (6, 7)).astype(dtype)
    wide = x.astype("float32"), rois.astype("float32")
    for function in (F.roi_align, F.roi_pool):
        y = function(x, rois, 3)
        assert y.dtype == x.dtype
        eps = float(ml_dtypes.finfo(dtype).eps)
        np.testing.assert_allclose(y.astype("float32"), function(*wide, 3), rtol=eps, atol=1e-6)


def test_the_format_of_the_input_is_kept():
    x, rois = images(2, 3, 4, 5), regions(3, 2, (4, 5))
    for function in (F.roi_align, F.roi_pool):
        assert np.moveaxis(function(last(x), rois, 2), 1, -1).flags.c_contiguous
        assert function(x, rois, 2).flags.c_contiguous


def test_coordinates_that_are_no_numbers_or_far_away(on):
    x = 1 + abs(images(1, 2, 5, 6))
    far = 3e9
    rois = np.array(
        [[0, np.nan, 0, 3, 3], [0, 0, 0, np.inf, 3], [0, -np.inf, 0, 3, 3], [0, far, far, 2 * far, 2 * far]]
    )
    for options in ((1.0, -1), (1.0, 2), (1.0, -1, True)):
        np.testing.assert_array_equal(F.roi_align(x, rois, 2, *options), 0)
    np.testing.assert_array_equal(F.roi_pool(x, rois[[0, 3]], 2), 0)
    # A box of billions of positions: few samples lie in the image, and only those are looked at.
    y = F.roi_align(tensor(x, requires_grad=True), np.array([[0, -far, -far, far, far]]), 3)
    assert 0 <= y.data.max() < 1e-6
    y.sum().backward()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_special_values_are_torchvisions(on, value):
    x = images(1, 1, 4, 4)
    x[0, 0, 1, 1] = value
    rois = np.array([[0.0, 1, 1, 1, 1], [0, 0, 0, 3, 3]])
    y = F.roi_pool(x, rois, 1)[:, 0, 0, 0]
    assert y[0] == (np.inf if value == np.inf else -float(np.finfo("float32").max))
    assert y[1] == (np.inf if value == np.inf else np.where(np.isfinite(x), x, -9).max())
    np.testing.assert_allclose(
        F.roi_align(x, rois, 2, 1.0, 2), loops.roi_align_forward(x, rois, (2, 2), 1.0, 2, False), rtol=1e-12
    )


def test_no_regions_channels_or_images(on):
    for function in (F.roi_align, F.roi_pool):
        leaf = tensor(images(2, 3, 4, 5), requires_grad=True)
        y = function(leaf, np.zeros((0, 5)), (2, 3))
        assert y.shape == (0, 3, 2, 3)
        y.sum().backward()
        assert not leaf.grad.numpy().any()
        assert function(np.zeros((0, 3, 4, 5)), np.zeros((0, 5)), 2).shape == (0, 3, 2, 2)
        assert function(np.zeros((2, 0, 4, 5)), np.zeros((3, 5)), 2).shape == (3, 0, 2, 2)
        assert function(np.zeros((2, 3, 4, 5)), [np.zeros((0, 4))] * 2, 2).shape == (0, 3, 2, 2)


def test_threads_and_schedules_change_no_bit():
    x, rois = images(2, 19, 24, 22, dtype="float32"), regions(50, 2, (24, 22), dtype="float32")

    def run(x):
        results = []
        for function in (F.roi_align, F.roi_pool):
            leaf = tensor(x, requires_grad=True)
            y = function(leaf, rois, 4)
            (y * y).sum().backward()
            results += [y.data.tobytes(), leaf.grad.numpy().tobytes()]
        return results

    for stored in (x, last(x)):
        expected = run(stored)
        for threads in (1, 2, 3):
            with num_threads(threads):
                assert run(stored) == expected
    require("plain")
    x, rois = x[:, :9, :7, :5].copy(), rois[:12]
    with backend.use_backend("emulated"):
        for stored in (x, last(x)):
            expected = run(stored)
            for order in SCHEDULES:
                with schedule(*order):
                    assert run(stored) == expected


@pytest.mark.parametrize("image", [2, -1, np.nan, 1e9])
def test_images_that_do_not_exist(image):
    x, rois = images(2, 2, 4, 4), np.array([[0, 0, 0, 2, 2], [image, 0, 0, 2, 2]], "float64")
    for function in (F.roi_align, F.roi_pool):
        for name in ("cpu", "reference"):
            with (
                backend.use_backend(name),
                pytest.raises(ShapeError, match="boxes: got no image of the batch for box 1"),
            ):
                function(x, rois, 2)
        require("plain")
        with backend.use_backend("emulated"):
            leaf = tensor(x, requires_grad=True)
            y = function(leaf, rois, 2)
            assert np.isnan(y.data[1]).all()
            assert np.isfinite(y.data[0]).all()
            y[0].sum().backward()
            assert np.isfinite(leaf.grad.numpy()).all()


def test_layers():
    x, rois = images(2, 3, 6, 6), regions(4, 2, (6, 6))
    align, pool = ops.RoIAlign((3, 2), 0.5, 2, aligned=True), ops.RoIPool(2, spatial_scale=0.5)
    np.testing.assert_array_equal(align(x, rois), F.roi_align(x, rois, (3, 2), 0.5, 2, True))
    np.testing.assert_array_equal(pool(x, rois), F.roi_pool(x, rois, 2, 0.5))
    assert repr(align) == "RoIAlign(output_size=(3, 2), spatial_scale=0.5, sampling_ratio=2, aligned=True)"
    assert repr(pool) == "RoIPool(output_size=2, spatial_scale=0.5)"
    assert not align.state_dict()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pyramids(on, dtype):
    """Each box by itself on its level, chosen by the definition; a known one has 224 positions on level 4."""
    rng = np.random.default_rng(0)
    names = ["0", "1", "2"]
    features = {name: images(2, 3, 64 >> i, 48 >> i, dtype=dtype) for i, name in enumerate(names)}
    features["pool"] = images(2, 3, 8, 6, dtype=dtype)
    layer = ops.MultiScaleRoIAlign(names, (2, 3), 2)
    low = rng.uniform(0, 100, (9, 2))
    boxes = np.concatenate([low, low + 2.0 ** rng.uniform(2, 9, (9, 1)) * [[1, 1.1]]], axis=1).astype(dtype)
    boxes[0] = [0, 0, 224, 224]
    leaves = {name: tensor(value, requires_grad=True) for name, value in features.items()}
    y = layer(leaves, [boxes[:4], boxes[4:]], [(250, 190), (256, 180)])
    for k, box in enumerate(boxes):
        side = np.sqrt((box[2] - box[0]) * (box[3] - box[1]))
        level = int(np.clip(np.floor(4 + np.log2(side / 224) + 1e-6), 2, 4))
        roi = np.array([[k >= 4, *box]], dtype)
        expected = F.roi_align(features[names[level - 2]], roi, (2, 3), 0.5**level, 2)
        np.testing.assert_array_equal(y.data[k], expected[0])
    y.sum().backward()
    assert leaves["2"].grad.numpy().any()
    assert leaves["pool"].grad is None
    single = ops.MultiScaleRoIAlign(["1"], 2, 2)
    np.testing.assert_array_equal(
        single(features, [boxes], [(256, 192)]), F.roi_align(features["1"], [boxes], 2, 0.125, 2)
    )
    assert repr(layer) == "MultiScaleRoIAlign(featmap_names=['0', '1', '2'], output_size=(2, 3), sampling_ratio=2)"
    for arguments, error in [(({}, [boxes], [(9, 9)]), ShapeError), ((features, boxes, [(9, 9)]), DTypeError),
                             ((features, [boxes], []), ShapeError)]:  # fmt: skip
        with pytest.raises(error):
            layer(*arguments)


def test_the_page_on_detection_runs():
    page = (Path(__file__).resolve().parent.parent / "docs" / "detection.md").read_text(encoding="utf-8")
    names = {}
    for source in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(source, names)
    assert names["kept"].tolist() == [0, 2]
    assert names["parts"].shape == (1, 8, 4, 7, 7)


X, R = images(2, 3, 4, 5), regions(3, 2, (4, 5))


@pytest.mark.parametrize("function", [F.roi_align, F.roi_pool])
@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((X[0], R, 2), ShapeError, r"input: got \[3, 4, 5\]"),
        ((X, R[:, 1:], 2), ShapeError, r"boxes: got \[3, 4\]"),
        ((X, R[0], 2), ShapeError, r"boxes: got \[5\]"),
        ((X[:, :, None], R, 2), ShapeError, r"boxes: got \[3, 5\], expected \[K, 7\]"),
        ((X[:, :, :0], R, 2), ShapeError, r"input: got \[2, 3, 0, 5\]"),
        ((X, [R, R], 2), ShapeError, r"boxes: got \[3, 5\], expected \[L, 4\]"),
        ((X, [R[:, 1:]] * 3, 2), ShapeError, "boxes: got a list of 3"),
        ((X, [], 2), ShapeError, "boxes: got a list of 0"),
        ((X, [R.tolist()], 2), DTypeError, "boxes: got list"),
        ((X, R.astype("float32"), 2), DTypeError, "boxes: got float32"),
        ((X.astype(int), R.astype(int), 2), DTypeError, "input: got int64"),
        ((X, None, 2), DTypeError, "boxes: got NoneType"),
        ((X, R, 0), ShapeError, "output_size: got 0"),
        ((X, R, (1, 2, 3)), ShapeError, r"output_size: got \[1, 2, 3\]"),
        ((X, R, 1.5), DTypeError, "output_size: got float"),
        ((X, R, 2, "1"), DTypeError, "spatial_scale: got str"),
    ],
)
def test_refusals(function, arguments, error, message):
    with pytest.raises(error, match=f"{function.__name__}: {message}"):
        function(*arguments)


def test_refusals_of_align():
    with pytest.raises(DTypeError, match="roi_align: sampling_ratio: got float"):
        F.roi_align(X, R, 2, 1.0, 1.5)
    with pytest.raises(ShapeError, match="roi_align: sampling_ratio: got"):
        F.roi_align(X, R, 2, 1.0, 2**40)
