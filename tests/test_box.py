"""Boxes: known values, plain loops, gradients, and three axes beside two."""

import ml_dtypes
import numpy as np
import pytest

import fastconv.functional as F
from fastconv import creation, ops
from fastconv.autograd import Tensor
from fastconv.errors import DTypeError, ShapeError
from tests.gradients import check_gradients

FORMATS = ("xyxy", "xywh", "cxcywh")
PAIRS = ("box_iou", "generalized_box_iou", "distance_box_iou", "complete_box_iou")


def boxes(*lead, axes=2, seed=0, dtype="float64"):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 10, (*lead, axes))
    return np.concatenate([low, low + rng.uniform(0.5, 6, (*lead, axes))], axis=-1).astype(dtype)


def pair(name, a, b, eps=1e-7):
    """One value by the definitions, in plain Python."""
    axes = len(a) // 2
    sides = [max(min(a[axes + i], b[axes + i]) - max(a[i], b[i]), 0) for i in range(axes)]
    around = [max(a[axes + i], b[axes + i]) - min(a[i], b[i]) for i in range(axes)]
    area = [np.prod([v[axes + i] - v[i] for i in range(axes)]) for v in (a, b)]
    inter = np.prod(sides)
    union = area[0] + area[1] - inter
    iou = inter / union
    if name == "box_iou":
        return iou
    if name == "generalized_box_iou":
        return iou - (np.prod(around) - union) / np.prod(around)
    apart = sum(((a[i] + a[axes + i]) / 2 - (b[i] + b[axes + i]) / 2) ** 2 for i in range(axes))
    distance = iou - apart / (sum(s * s for s in around) + eps)
    if name == "distance_box_iou":
        return distance
    v = 4 / np.pi**2 * (np.arctan((a[2] - a[0]) / (a[3] - a[1])) - np.arctan((b[2] - b[0]) / (b[3] - b[1]))) ** 2
    return distance - v / (1 - iou + v + eps) * v


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("name", PAIRS)
def test_pairs_by_their_definitions(name, axes):
    if name == "complete_box_iou" and axes == 3:
        pytest.skip("it has no counterpart in three axes")
    a, b = boxes(2, 5, axes=axes), boxes(2, 4, axes=axes, seed=1)
    b[0, 0] = a[0, 0]
    function = getattr(F, name)
    expected = [[[pair(name, x, y) for y in b[n]] for x in a[n]] for n in range(2)]
    np.testing.assert_allclose(function(a, b), expected, rtol=1e-12, atol=1e-12)
    result = function(a.astype("float32"), b.astype("float32"))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(function(a, b[:1]), function(a, np.stack([b[0], b[0]])))
    check_gradients(lambda x, y: function(x, y) if name != "complete_box_iou" else F.distance_box_iou(x, y), a[0], b[1])


def test_known_values():
    a, b = np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 1, 3, 3], [0, 0, 2, 2], [5, 5, 6, 6]])
    np.testing.assert_allclose(F.box_iou(a, b), [[1 / 7, 1, 0]])
    np.testing.assert_allclose(F.generalized_box_iou(a, b), [[1 / 7 - 2 / 9, 1, -31 / 36]])
    np.testing.assert_allclose(F.distance_box_iou(a, b, 0.0), [[1 / 7 - 2 / 18, 1, -(4.5**2) * 2 / 72]])
    np.testing.assert_allclose(F.complete_box_iou(a, b)[0, 1:], F.distance_box_iou(a, b)[0, 1:], rtol=1e-6)
    np.testing.assert_array_equal(F.box_area(np.array([[1, 2, 4, 6]], "int8")), [12])
    np.testing.assert_array_equal(F.box_area(np.array([1.0, 2, 3, 2, 4, 6])), 6)


def test_the_factor_of_complete_box_iou_has_no_gradient():
    """Its slope is that of alpha * v with alpha as it is, not that of v * v / (1 - iou + v)."""
    a, b = boxes(1), boxes(1, seed=1)
    x = creation.tensor(a, requires_grad=True)
    difference = F.distance_box_iou(x, b) - F.complete_box_iou(x, b)
    difference.sum().backward()
    v, step = [], 1e-6
    for sign in (1, -1):
        moved = a.copy()
        moved[0, 2] += sign * step
        w = [(m[0, 2] - m[0, 0]) / (m[0, 3] - m[0, 1]) for m in (moved, b)]
        v.append(4 / np.pi**2 * (np.arctan(w[0]) - np.arctan(w[1])) ** 2)
    middle = sum(v) / 2
    alpha = middle / (1 - F.box_iou(a, b)[0, 0] + middle + 1e-7)
    np.testing.assert_allclose(x.grad.numpy()[0, 2], alpha * (v[0] - v[1]) / (2 * step), rtol=1e-5)


@pytest.mark.parametrize("axes", [2, 3])
def test_formats(axes):
    x = boxes(7, axes=axes)
    low, high = x[:, :axes], x[:, axes:]
    same = {
        "xyxy": x,
        "xywh": np.concatenate([low, high - low], 1),
        "cxcywh": np.concatenate([(low + high) / 2, high - low], 1),
    }
    for source in FORMATS:
        np.testing.assert_allclose(F.box_area(same[source], source), (high - low).prod(1), rtol=1e-12)
        np.testing.assert_allclose(F.box_iou(same[source], same[source], source), F.box_iou(x, x), rtol=1e-9)
        for target in FORMATS:
            y = F.box_convert(same[source], source, target)
            np.testing.assert_allclose(y, same[target], rtol=1e-12)
            assert not np.may_share_memory(y, same[source])
            check_gradients(lambda v, s=source, t=target: F.box_convert(v, s, t), x)


def test_dtypes():
    x = np.array([[0, 0, 5, 4], [1, 2, 4, 3]])
    for dtype, area in [("int8", "int32"), ("uint8", "int32"), ("int64", "int64"), ("float16", "float32"),
                        (ml_dtypes.bfloat16, "float32"), ("float64", "float64")]:  # fmt: skip
        b = x.astype(dtype)
        assert F.box_area(b).dtype == area
        np.testing.assert_array_equal(F.box_area(b), [20, 3])
        assert F.box_iou(b, b).dtype == ("float64" if dtype == "float64" else "float32")
        np.testing.assert_allclose(F.box_iou(b, b), [[1, 0.15], [0.15, 1]], rtol=1e-6)
        assert F.box_convert(b, "xyxy", "xywh").dtype == b.dtype
        assert F.clip_boxes_to_image(b, (3, 3)).dtype == b.dtype
    assert F.box_convert(x, "xyxy", "cxcywh").dtype == np.float32


@np.errstate(all="ignore")
def test_boxes_without_area_and_special_values():
    a = np.array([[0, 0, 0, 0], [3, 3, 1, 1], [np.nan, 0, 1, 1], [0, 0, np.inf, 1]])
    b = np.array([[0.0, 0, 0, 0], [0, 0, 2, 2]])
    np.testing.assert_array_equal(F.box_iou(a, b), [[np.nan, 0], [0, 0], [np.nan, np.nan], [0, 0]])


@pytest.mark.parametrize("axes", [2, 3])
def test_clipping(axes):
    x = boxes(6, axes=axes) * 2 - 5
    size = (4, 6, 9)[-axes:]
    expected = np.clip(x, 0, [*reversed(size)] * 2)
    np.testing.assert_array_equal(F.clip_boxes_to_image(x, size), expected)
    np.testing.assert_array_equal(F.clip_boxes_to_image(x[None], list(size)), expected[None])
    check_gradients(lambda v: F.clip_boxes_to_image(v, size), x)


def test_small_boxes():
    x = np.array([[0, 0, 2, 2], [0, 0, 1, 5], [0, 0, 2, 1.9], [1, 1, 9, 9], [np.nan, 0, 9, 9]])
    np.testing.assert_array_equal(F.remove_small_boxes(x, 2), [0, 3])
    kept = F.remove_small_boxes(creation.tensor(x, requires_grad=True), 2)
    assert isinstance(kept, Tensor)
    assert kept.dtype == np.int64
    np.testing.assert_array_equal(F.remove_small_boxes(np.array([[0.0, 0, 0, 2, 2, 1], [0, 0, 0, 2, 2, 2]]), 2), [1])


def test_masks():
    masks = np.zeros((4, 5, 7), bool)
    masks[0, 1:4, 2:6] = True
    masks[1, 4, 0] = masks[1, 0, 6] = True
    masks[3] = True
    expected = [[2, 1, 5, 3], [0, 0, 6, 4], [0, 0, 0, 0], [0, 0, 6, 4]]
    for dtype in ("bool", "uint8", "float32", "int64"):
        found = F.masks_to_boxes(masks.astype(dtype))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)
    volume = np.zeros((2, 3, 4, 5))
    volume[1, 1:, 2, 3:] = 0.5
    np.testing.assert_array_equal(F.masks_to_boxes(volume), [[0] * 6, [3, 2, 1, 4, 2, 2]])
    for shape in [(0, 4, 4), (3, 0, 4)]:
        assert F.masks_to_boxes(np.zeros(shape)).shape == (0, 4)
    assert isinstance(F.masks_to_boxes(creation.tensor(masks)), Tensor)


@pytest.mark.parametrize("lead", [(0,), (2, 0)])
def test_no_boxes(lead):
    none, some = np.zeros((*lead, 4)), boxes(*lead[:-1], 3)
    assert F.box_area(none).shape == lead
    assert F.box_convert(none, "xyxy", "cxcywh").shape == none.shape
    assert F.clip_boxes_to_image(none, (3, 3)).shape == none.shape
    for name in PAIRS:
        assert getattr(F, name)(none, some).shape == (*lead[:-1], 0, 3)
    assert F.remove_small_boxes(np.zeros((0, 4)), 1).shape == (0,)


def test_ops_has_these_functions():
    for name in (*PAIRS, "box_area", "box_convert", "clip_boxes_to_image", "remove_small_boxes", "masks_to_boxes"):
        assert getattr(ops, name) is getattr(F, name)


X, WIDE = boxes(3), boxes(3, axes=3)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: F.box_area(X[:, :3]), ShapeError, r"box_area: boxes: got \[3, 3\]"),
        (lambda: F.box_area(np.float64(3)), DTypeError, "box_area: boxes: got float64"),
        (lambda: F.box_area(X > 1), DTypeError, "box_area: boxes: got bool"),
        (lambda: F.box_area(X, "xyxyxyxy"), ShapeError, "box_area: fmt: got 'xyxyxyxy'"),
        (lambda: F.box_convert(X, "xyxy", "xywhr"), ShapeError, "box_convert: out_fmt: got 'xywhr'"),
        (lambda: F.box_convert(X, None, "xyxy"), ShapeError, "box_convert: in_fmt: got None"),
        (lambda: F.box_convert([1, 2, 3, 4], "xyxy", "xywh"), DTypeError, "box_convert: boxes: got list"),
        (lambda: F.box_iou(X, WIDE), ShapeError, r"box_iou: boxes2: got \[3, 6\]"),
        (lambda: F.box_iou(X[0], X), ShapeError, r"box_iou: boxes1: got \[4\]"),
        (lambda: F.box_iou(np.ones((2, 3, 4)), np.ones((3, 3, 4))), ShapeError, "box_iou: boxes1 and boxes2"),
        (lambda: F.box_iou(X, X, "cxcywhr"), ShapeError, "box_iou: fmt: got 'cxcywhr'"),
        (lambda: F.complete_box_iou(WIDE, WIDE), ShapeError, r"complete_box_iou: boxes1: got \[3, 6\]"),
        (lambda: F.distance_box_iou(X, X, "0"), DTypeError, "distance_box_iou: eps: got str"),
        (lambda: F.clip_boxes_to_image(X, (3, 4, 5)), ShapeError, r"clip_boxes_to_image: size: got \(3, 4, 5\)"),
        (lambda: F.clip_boxes_to_image(X, 3), ShapeError, "clip_boxes_to_image: size: got int 3"),
        (lambda: F.clip_boxes_to_image(X, (3, None)), DTypeError, "clip_boxes_to_image: size: got NoneType"),
        (lambda: F.remove_small_boxes(X[None], 1), ShapeError, r"remove_small_boxes: boxes: got \[1, 3, 4\]"),
        (lambda: F.remove_small_boxes(X, X), DTypeError, "remove_small_boxes: min_size: got float64"),
        (lambda: F.masks_to_boxes(X), ShapeError, r"masks_to_boxes: masks: got \[3, 4\]"),
        (lambda: F.masks_to_boxes("mask"), DTypeError, "masks_to_boxes: masks: got str"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()
