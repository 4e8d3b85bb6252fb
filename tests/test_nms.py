"""Non-maximum suppression: an obvious oracle, known values, ties, NaN and bad input, on every backend."""

import ml_dtypes
import numpy as np
import pytest

import fastconv.functional as F
from fastconv import backend, cpu, cuda, ops
from fastconv.autograd import Tensor
from fastconv.cpu.threads import num_threads
from fastconv.creation import tensor
from fastconv.errors import DTypeError, ShapeError
from tests.emulation import SCHEDULES, is_built, require, schedule

BACKENDS = ["cpu", "reference", "emulated"]


@pytest.fixture(params=BACKENDS)
def on(request):
    if request.param == "emulated":
        require("plain")
    with backend.use_backend(request.param):
        yield request.param


def draw(count, axes=2, extent=60.0, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, extent, (count, axes))
    boxes = np.concatenate([low, low + rng.uniform(2, 20, (count, axes))], axis=1)
    return boxes.astype(dtype), rng.random(count).round(2).astype(dtype), rng.integers(0, 4, count)


def oracle(boxes, scores, threshold, idxs=None):
    """The definition, pair by pair, in the dtype of the boxes; NaN scores first and equal ones in their order."""
    order = sorted(
        range(len(scores)), key=lambda i: (not np.isnan(scores[i]), -scores[i] if scores[i] == scores[i] else 0)
    )
    axes, kept = boxes.shape[1] // 2, []
    with np.errstate(all="ignore"):
        for j in order:
            for i in kept:
                sides = np.minimum(boxes[i, axes:], boxes[j, axes:]) - np.maximum(boxes[i, :axes], boxes[j, :axes])
                areas = [np.prod(boxes[k, axes:] - boxes[k, :axes]) for k in (i, j)]
                inter = np.prod(np.where(sides > 0, sides, 0))
                if inter / (areas[0] + areas[1] - inter) > threshold and (idxs is None or idxs[i] == idxs[j]):
                    break
            else:
                kept.append(j)
    return kept


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threshold", [0.0, 0.4, 1.0, -1.0])
def test_what_remains(on, axes, dtype, threshold):
    boxes, scores, idxs = draw(100, axes, dtype=dtype)
    assert F.nms(boxes, scores, threshold).tolist() == oracle(boxes, scores, threshold)
    assert F.batched_nms(boxes, scores, idxs, threshold).tolist() == oracle(boxes, scores, threshold, idxs)


def test_known_values(on):
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30], [0, 0, 10, 10]], "float32")
    scores = np.array([0.5, 0.9, 0.1, 0.9], "float32")
    kept = F.nms(boxes, scores, 0.5)
    assert kept.tolist() == [1, 2]
    assert kept.dtype == np.int64
    half = np.array([[0, 0, 10, 10], [0, 0, 10, 5]], "float32")
    assert F.nms(half, scores[:2], 0.5).tolist() == [1, 0]  # no more than the threshold is not too much
    assert F.batched_nms(boxes, scores, np.array([0, 0, 0, 1]), 0.5).tolist() == [1, 3, 2]
    assert isinstance(F.nms(tensor(boxes, requires_grad=True), scores, 0.5), Tensor)


def test_equal_scores_and_nan(on):
    boxes = np.tile(np.array([[0.0, 0, 4, 4]]), (6, 1))
    assert F.nms(boxes, np.array([1.0, 2, 2, 0, 1, 2]), 0.5).tolist() == [1]
    assert F.nms(boxes, np.array([1, np.inf, np.nan, np.nan, -np.inf, 2]), 0.5).tolist() == [2]
    assert F.nms(boxes, np.array([0.0, -0.0, 0.0, -1, -1, -1]), 0.5).tolist() == [0]
    apart = boxes + 10 * np.arange(6)[:, None]
    assert F.nms(apart, np.array([1, np.nan, 2, 2, np.nan, -np.inf]), 0.5).tolist() == [1, 4, 2, 3, 0, 5]


def test_boxes_that_overlap_nothing(on):
    boxes = np.array([[0, 0, 4, 4], [2, 2, 2, 2], [0, np.nan, 4, 4], [4, 4, 0, 0], [0, 0, 4, 4], [0, 0, np.inf, 4]])
    scores = np.arange(6)[::-1].astype(float)
    assert F.nms(boxes, scores, 0.5).tolist() == oracle(boxes, scores, 0.5) == [0, 1, 2, 3, 5]


def test_no_boxes(on):
    for axes in (2, 3):
        none = np.zeros((0, 2 * axes), "float32")
        kept = F.nms(none, np.zeros(0, "float32"), 0.5)
        assert (kept.shape, kept.dtype) == ((0,), np.int64)
        assert F.batched_nms(none, np.zeros(0, "float32"), np.zeros(0, int), 0.5).shape == (0,)


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16])
def test_halves_are_computed_in_float32(on, dtype):
    boxes, scores, _ = draw(90, dtype=dtype)
    expected = oracle(boxes.astype("float32"), scores.astype("float32"), 0.4)
    assert F.nms(boxes, scores, 0.4).tolist() == expected


def test_categories_of_every_kind(on):
    boxes, scores, idxs = draw(60)
    expected = F.batched_nms(boxes, scores, idxs, 0.3).tolist()
    for same in (idxs.astype("int8"), idxs.astype("float32"), idxs - 2, (idxs - 2.0) * np.float32(1e30), tensor(idxs)):
        assert F.batched_nms(boxes, scores, same, 0.3).tolist() == expected
    two = idxs > 1
    assert F.batched_nms(boxes, scores, two, 0.3).tolist() == F.batched_nms(boxes, scores, two * 7, 0.3).tolist()
    zeros = np.where(two, 0.0, -0.0)
    assert F.batched_nms(boxes, scores, zeros, 0.3).tolist() == F.nms(boxes, scores, 0.3).tolist()


@pytest.mark.parametrize("extent", [80.0, 2000.0])
def test_rounds_and_threads_change_nothing(extent):
    """More boxes than a round has, few of which remain, or nearly all."""
    boxes, scores, idxs = draw(3000, extent=extent)
    idxs = np.where(idxs, idxs, 5 * np.arange(3000))
    with backend.use_backend("reference"):
        expected = F.nms(boxes, scores, 0.5), F.batched_nms(boxes, scores, idxs, 0.5)
    for threads in (1, 2, 3):
        with num_threads(threads):
            np.testing.assert_array_equal(F.nms(boxes, scores, 0.5), expected[0])
            np.testing.assert_array_equal(F.batched_nms(boxes, scores, idxs, 0.5), expected[1])


def test_passes_and_schedules_change_nothing():
    require("plain")
    boxes, scores, idxs = draw(260)
    blocks = -(-260 // 64)
    expected, grouped = oracle(boxes, scores, 0.5), oracle(boxes, scores, 0.5, idxs)
    with backend.use_backend("emulated"):
        for limit in (cuda.get_max_workspace(), 0, blocks * 512, 2 * blocks * 512):
            with cuda.max_workspace(limit):
                for order in SCHEDULES:
                    with schedule(*order):
                        assert F.nms(boxes, scores, 0.5).tolist() == expected
                assert F.batched_nms(boxes, scores, idxs, 0.5).tolist() == grouped


def test_arrays_of_any_storage():
    boxes, scores, _ = draw(100)
    expected = cpu.nms(boxes, np.argsort(-scores, kind="stable"), None, 0.3)
    backends = BACKENDS if is_built("plain") else BACKENDS[:2]
    for name in backends:
        with backend.use_backend(name):
            for stored in (np.asfortranarray(boxes), boxes.astype(">f4"), np.repeat(boxes, 2, 1)[:, ::2]):
                np.testing.assert_array_equal(F.nms(stored, scores[::-1][::-1], 0.3), expected)


def test_ops_has_these_functions():
    assert (ops.nms, ops.batched_nms) == (F.nms, F.batched_nms)


B, S, C = draw(5)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: F.nms(B[:, :3], S, 0.5), ShapeError, r"nms: boxes: got \[5, 3\]"),
        (lambda: F.nms(B[0], S, 0.5), ShapeError, r"nms: boxes: got \[4\]"),
        (lambda: F.nms(B[None], S, 0.5), ShapeError, r"nms: boxes: got \[1, 5, 4\]"),
        (lambda: F.nms(B, S[:4], 0.5), ShapeError, r"nms: scores: got \[4\]"),
        (lambda: F.nms(B, S[:, None], 0.5), ShapeError, r"nms: scores: got \[5, 1\]"),
        (lambda: F.nms(B, S.astype("float64"), 0.5), DTypeError, "nms: scores: got float64"),
        (lambda: F.nms(B.astype(int), S.astype(int), 0.5), DTypeError, "nms: boxes: got int64"),
        (lambda: F.nms(B.tolist(), S, 0.5), DTypeError, "nms: boxes: got list"),
        (lambda: F.nms(B, S, None), DTypeError, "nms: iou_threshold: got NoneType"),
        (lambda: F.nms(B, S, float("nan")), ShapeError, "nms: iou_threshold: got nan"),
        (lambda: F.batched_nms(B, S, C[:3], 0.5), ShapeError, r"batched_nms: idxs: got \[3\]"),
        (lambda: F.batched_nms(B, S, [0] * 5, 0.5), DTypeError, "batched_nms: idxs: got list"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()
