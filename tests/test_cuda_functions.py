"""Every public function on arrays that behave as CuPy's do, forward and backward, on a GPU that is not current.

The same calls on NumPy arrays say what comes out. tests/cupy_stand_in.py says what CuPy refuses; its log, what would
wait for a GPU.
"""

import functools
import inspect
import math

import numpy as np
import pytest

import fastconv
import fastconv.functional as F
from fastconv import nn, ops, optim
from tests.cupy_stand_in import FUNCTIONS, Device, current, log, module, ndarray
from tests.emulation import require

DTYPES = {"float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10, "float64": 2.0**-52}
HOST = ["copy to host", "count of a mask"]


@pytest.fixture(autouse=True)
def built():
    pytest.importorskip("ml_dtypes")
    require("plain")


def wave(*shape, low=-1.0, high=1.0):
    """Values that lie between two numbers and are all different."""
    count = int(np.prod(shape))
    return (low + (high - low) * (0.5 + np.arange(count) * 7 % max(count, 1)) / max(count, 1)).reshape(shape)


ANY, POSITIVE, OTHER = wave(3, 4), wave(3, 4, low=0.1, high=2.0), wave(3, 4, low=-0.93, high=1.1)
ROW, NUMBER, WHOLE = wave(4, low=0.2), 1.5, np.arange(12).reshape(3, 4) % 5
SIGNAL, IMAGE, VOLUME = wave(2, 4, 6), wave(2, 4, 6, 5), wave(2, 4, 3, 4, 3)
CLASSES, TRUE = np.array([1, 0, 3]), ANY > 0
POINTS, POINTS_3D = wave(2, 3, 2, 2, low=-1.2, high=1.2), wave(2, 2, 1, 3, 3, low=-1.2, high=1.2)
CHANNEL = wave(4, low=0.5, high=1.5)
BOXES = np.concatenate([wave(6, 2, high=4.0), wave(6, 2, low=5.0, high=9.0)], axis=1)
BOXES_3D = np.concatenate([wave(6, 3, high=4.0), wave(6, 3, low=5.0, high=9.0)], axis=1)
WHOLE_IMAGE = np.arange(60).reshape(2, 6, 5) % 4
ROIS = np.array([[0, 0.5, 1.5, 4.25, 4.5], [1, -2.0, 0.0, 3.5, 9.0], [1, 1.0, 1.0, 1.0, 1.5]])
ROIS_3D = np.array([[1, 0.5, 1.5, 0.25, 2.5, 3.5, 1.5], [0, -1.0, 0.0, 0.5, 5.0, 2.0, 2.0]])
BYTES = (100 * IMAGE).astype("uint8")
BY_RANK = {1: SIGNAL, 2: IMAGE, 3: VOLUME}
PLACES = {rank: np.arange(x.size).reshape(x.shape) * 5 % x[0, 0].size for rank, x in BY_RANK.items()}
COUNTS = {rank: (8 * x).astype("int32") for rank, x in BY_RANK.items()}


def shared(names, calls):
    """The same calls for several functions."""
    return dict.fromkeys(names, calls)


BOX_LOSSES = ("generalized_box_iou_loss", "distance_box_iou_loss", "complete_box_iou_loss")

# Functions whose results have as many elements as the values say: the host has to wait for their number.
COUNTED = ("nms", "batched_nms", "remove_small_boxes")

# Calls of each function: arguments, and what is passed by name. Floating arrays take the dtype of the test.
ONE = [(ANY,)]
CALLS = {
    **shared(("abs", "cos", "erf", "exp", "expm1", "neg", "sigmoid", "sign", "sin", "square", "tanh"), ONE),
    **shared(("celu", "elu", "gelu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu"), ONE),
    **shared(("logsigmoid", "mish", "relu", "relu6", "selu", "silu", "softplus", "softshrink", "softsign"), ONE),
    **shared(("tanhshrink", "isfinite", "isinf", "isnan", "clone", "flatten", "contiguous", "squeeze"), ONE),
    **shared(("log", "log1p", "reciprocal", "rsqrt", "sqrt"), [(POSITIVE,)]),
    **shared(("add", "sub", "mul", "maximum", "minimum"), [(ANY, OTHER), (ANY, ROW), (ANY, 0.5), (0.5, ANY)]),
    **shared(("eq", "ne", "lt", "le", "gt", "ge"), [(ANY, OTHER), (ANY, 0.5), (0.5, ANY), (WHOLE, 2)]),
    **shared(("bitwise_and", "bitwise_or", "bitwise_xor"), [(WHOLE, WHOLE), (TRUE, TRUE), (WHOLE, 3)]),
    **shared(("softmax", "log_softmax", "softmin"), [(ANY, 1), (ANY, 0)]),
    **shared(("sum", "mean", "amax", "amin", "logsumexp"), [(ANY,), (ANY, 1), (IMAGE, (0, 2), True)]),
    **shared(("max", "min"), [(ANY,), (ANY, 1), (ANY, OTHER)]),
    **shared(("argmax", "argmin", "all", "any"), [(ANY,), (ANY, 0), (IMAGE, 2, True)]),
    **shared(("std", "var"), [(ANY,), (ANY, 1)]),
    **shared(("mse_loss", "l1_loss"), [(ANY, OTHER), (ANY, OTHER, None, None, "mean", POSITIVE)]),
    **shared(("smooth_l1_loss", "huber_loss"), [(ANY, OTHER)]),
    "kl_div": [(ANY, POSITIVE, None, None, "batchmean"), (ANY, OTHER, None, None, "sum", True)],
    "poisson_nll_loss": [(ANY, POSITIVE), (POSITIVE, POSITIVE, False, True)],
    "gaussian_nll_loss": [(ANY, OTHER, POSITIVE), (ANY, OTHER, 0.5, True)],
    "soft_margin_loss": [(ANY, 2 * TRUE - 1)],
    "bitwise_not": [(WHOLE,), (TRUE,)],
    "div": [(ANY, POSITIVE), (ANY, 3), (2, POSITIVE), (WHOLE, 2)],
    "pow": [(POSITIVE, 2), (POSITIVE, 0.5), (POSITIVE, 3.0), (POSITIVE, OTHER), (2.0, ANY), (WHOLE, 2), (WHOLE, WHOLE)],
    "clamp": [(ANY, -0.5, 0.5), (ANY, None, 0.5), (ANY, OTHER, None), (0.25, ANY, OTHER), (WHOLE, 1)],
    "where": [(TRUE, ANY, OTHER), (TRUE, ANY, 0.0), (TRUE, 1.0, ANY), (TRUE, 1.0, 2.0)],
    "cast": [(ANY, "float64"), (WHOLE, "float32"), (ANY, "int64")],
    "threshold": [(ANY, 0.1, 20.0)],
    "rrelu": [(ANY,), (ANY, 0.1, 0.3, True)],
    "prelu": [(IMAGE, CHANNEL), (ANY, np.array([0.25]))],
    "glu": [(ANY,), (IMAGE, 1)],
    "cat": [([ANY, OTHER],), ([ANY, OTHER, ANY], 1)],
    "stack": [([ANY, OTHER], 1)],
    "chunk": [(ANY, 2)],
    "split": [(ANY, 2, 1)],
    "getitem": [(ANY, (slice(None), 1)), (ANY, CLASSES % 3), (ANY, (None, ..., slice(0, 3, 2)))],
    "broadcast_to": [(ROW, 3, 4)],
    "flip": [(ANY, (0, 1))],
    "movedim": [(IMAGE, 1, -1)],
    "permute": [(ANY, 1, 0)],
    "transpose": [(ANY, 0, 1)],
    "reshape": [(ANY, 2, -1)],
    "unflatten": [(ANY, 1, (2, 2))],
    "unsqueeze": [(ANY, 1)],
    "bilinear": [(ANY, wave(3, 2), wave(5, 4, 2)), (ANY, wave(3, 2), wave(5, 4, 2), wave(5))],
    "linear": [(ANY, wave(5, 4), wave(3, 1)), (ANY, wave(5, 4)), (ANY, wave(5, 4), wave(5))],
    "matmul": [(ANY, wave(4, 5)), (wave(2, 3, 4), wave(4, 2)), (ROW, ROW), (WHOLE, WHOLE.T)],
    "dropout": [(ANY, 0.5, True)],
    "alpha_dropout": [(ANY, 0.5, True)],
    "feature_alpha_dropout": [(IMAGE, 0.5, True)],
    "gumbel_softmax": [(ANY,), (IMAGE, 0.7, True, 1e-10, 1)],
    **{f"dropout{rank}d": [(x, 0.5, True)] for rank, x in BY_RANK.items()},
    **{f"conv{rank}d": [(x, wave(6, 2, *(3,) * rank), wave(6), 1, 1, 1, 2)] for rank, x in BY_RANK.items()},
    **{f"conv_transpose{rank}d": [(x, wave(4, 3, *(2,) * rank), wave(3), 2)] for rank, x in BY_RANK.items()},
    **{f"max_pool{rank}d": [(x, 2)] for rank, x in BY_RANK.items()},
    **{f"avg_pool{rank}d": [(x, 2), (COUNTS[rank].astype("int64"), 3, 2, 1)] for rank, x in BY_RANK.items()},
    **{f"adaptive_{kind}_pool{rank}d": [(x, 2)] for rank, x in BY_RANK.items() for kind in ("max", "avg")},
    **{f"lp_pool{rank}d": [(x, 2, 2), (x, math.inf, 2)] for rank, x in BY_RANK.items()},
    **{f"max_unpool{rank}d": [(x, PLACES[rank], 3)] for rank, x in BY_RANK.items()},
    "fractional_max_pool2d": [(IMAGE, 2, 3)],
    "fractional_max_pool3d": [(VOLUME, 2, 1)],
    **{f"fractional_max_pool{rank}d_with_indices": [(BY_RANK[rank], 1, 2)] for rank in (2, 3)},
    **{f"max_pool{rank}d_with_indices": [(x, 2), (COUNTS[rank], 3, 2, 1)] for rank, x in BY_RANK.items()},
    **{f"adaptive_max_pool{rank}d_with_indices": [(x, 2)] for rank, x in BY_RANK.items()},
    "batch_norm": [(IMAGE, CHANNEL, CHANNEL, CHANNEL, CHANNEL, training) for training in (True, False)],
    "group_norm": [(IMAGE, 2, CHANNEL, CHANNEL)],
    "instance_norm": [(IMAGE, CHANNEL, CHANNEL, CHANNEL, CHANNEL)],
    "layer_norm": [(ANY, (4,), CHANNEL, CHANNEL)],
    "pixel_shuffle": [(IMAGE, 2), (VOLUME, 1)],
    "pixel_unshuffle": [(IMAGE, 1), (VOLUME[..., :2], 2)],
    **shared(("channel_shuffle", "native_channel_shuffle"), [(IMAGE, 2), (VOLUME, 4)]),
    "rms_norm": [(ANY, (4,), CHANNEL), (ANY, (4,))],
    "local_response_norm": [(IMAGE, 3), (ROW.reshape(1, 4, 1), 2, 0.5, 0.75, 2.0)],
    "grid_sample": [(IMAGE, POINTS), (IMAGE, POINTS, "bicubic", "border"), (VOLUME, POINTS_3D, "nearest"),
                    (VOLUME, POINTS_3D, "bilinear", "reflection", True)],
    "affine_grid": [(wave(2, 2, 3), (2, 1, 3, 4)), (wave(2, 3, 4), (2, 1, 3, 1, 4), True)],
    "unfold": [(IMAGE, 2), (IMAGE, (3, 5), 1, 0, (3, 5)), (IMAGE, (3, 2), (2, 1), (2, 0), 2), (TRUE[None], 2)],
    "fold": [(wave(2, 8, 6), (4, 3), (2, 2), 1, (0, 0), (1, 1)), (wave(4, 16), 4, 2, 2, 1)],
    "pad": [
        (IMAGE, (1, 2, -1, 1), *more)
        for more in ((), ("constant", 1.5), ("reflect",), ("replicate",), ("circular",))
    ] + [(WHOLE, (1, 0), "constant", 3), (VOLUME, (1, 1, 1, 1, 1, 1), "replicate")],
    "interpolate": [
        (IMAGE, (3, 7)), (IMAGE, None, 2.0, "bilinear"), (IMAGE, (3, 7), None, "bicubic"),
        (IMAGE, (3, 7), None, "area"), (IMAGE, (3, 7), None, "bilinear", False, None, True),
    ],
    "upsample": [(IMAGE, None, 2, "bilinear"), (BYTES, (3, 7), None, "bicubic"), (BYTES, (3, 7))],
    "upsample_bilinear": [(IMAGE, (3, 7))],
    "upsample_nearest": [(IMAGE, (3, 7))],
    "normalize": [(ANY,), (ANY, 1.0)],
    "cosine_similarity": [(ANY, OTHER)],
    "pairwise_distance": [(ANY, OTHER)],
    "pdist": [(ANY,), (ANY, 1.5)],
    "binary_cross_entropy": [(wave(3, 4, low=0.1, high=0.9), wave(3, 4, low=0.0, high=1.0))],
    "binary_cross_entropy_with_logits": [(ANY, wave(3, 4, low=0.0, high=1.0), CHANNEL)],
    "cross_entropy": [(ANY, CLASSES), (ANY, CLASSES, CHANNEL, None, 3, None, "sum", 0.1),
                      (ANY, wave(3, 4, low=0, high=0.5))],
    "nll_loss": [(ANY, CLASSES), (ANY, CLASSES, CHANNEL, None, 3)],
    "one_hot": [(WHOLE, 5)],
    **shared(("celu_", "elu_", "hardtanh_", "leaky_relu_", "relu_", "rrelu_", "selu_"), ONE),
    "threshold_": [(ANY, 0.1, 20.0)],
    **shared(("ceil", "floor", "round", "trunc", "logical_not", "ravel", "t", "sort", "argsort", "prod"), [(ANY,)]),
    **shared(("logical_and", "logical_or", "logical_xor"), [(ANY, TRUE)]),
    **shared(("bmm",), [(wave(2, 3, 4), wave(2, 4, 2))]),
    **shared(("mm",), [(ANY, wave(4, 2))]),
    "mv": [(ANY, ROW)],
    "dot": [(ROW, ROW)],
    "outer": [(ROW, CHANNEL)],
    "einsum": [("ij,kj->ik", ANY, OTHER), ("...ii", wave(2, 3, 3)), ("bij,j", wave(2, 3, 4), ROW)],
    "cumsum": [(ANY, 1), (IMAGE, 0), (WHOLE, 1)],
    "gather": [(ANY, 0, WHOLE[:2] % 3)],
    "take_along_dim": [(ANY, CLASSES[:, None], 1)],
    "index_select": [(ANY, 1, CLASSES)],
    "masked_fill": [(ANY, TRUE, 2.0)],
    "narrow": [(ANY, 1, 1, 2)],
    "select": [(ANY, 1, -1)],
    "unbind": [(ANY, 1)],
    "roll": [(ANY, 1), (ANY, (1, -1), (0, 1))],
    "topk": [(ANY, 2), (ANY, 2, 0, False)],
    "tile": [(ANY, (2, 1, 2))],
    "repeat_interleave": [(ANY, 2), (ANY, 3, 0)],
    **shared(("tril", "triu"), [(ANY,), (IMAGE, 1), (WHOLE, -1)]),
    "swapaxes": [(ANY, 0, 1)],
    **shared(("margin_ranking_loss", "triplet_margin_loss"), [(ANY, OTHER, POSITIVE)]),
    "triplet_margin_with_distance_loss": [(ANY, OTHER, POSITIVE)],
    "hinge_embedding_loss": [(POSITIVE, 1 - 2 * TRUE)],
    "cosine_embedding_loss": [(ANY, OTHER, np.array([1, -1, 1]))],
    "multi_margin_loss": [(ANY, CLASSES), (ANY, CLASSES, 2, 0.5, CHANNEL, None, None, "none")],
    "multilabel_margin_loss": [(ANY, WHOLE % 4), (ANY, WHOLE - 1, None, None, "none")],
    "multilabel_soft_margin_loss": [(ANY, TRUE * 1), (ANY, OTHER, CHANNEL)],
    "embedding": [(CLASSES, wave(5, 4)), (WHOLE, wave(5, 4), 1, 0.5, 1.0, True)],
    "scaled_dot_product_attention": [(SIGNAL, SIGNAL, SIGNAL), (ANY, OTHER, ANY, wave(3, 3), 0.5)],
    "box_area": [(BOXES,), (BOXES_3D, "xywh")],
    "box_convert": [(BOXES, "xyxy", "cxcywh"), (BOXES_3D, "cxcywh", "xywh")],
    "box_iou": [(BOXES, BOXES[:4] + 1), (BOXES_3D, BOXES_3D[:2], "xywh")],
    **shared(("generalized_box_iou", "distance_box_iou"), [(BOXES, BOXES[:4] + 1), (BOXES_3D, BOXES_3D[:2])]),
    "complete_box_iou": [(BOXES, BOXES[:4] + 1)],
    **shared(BOX_LOSSES, [(BOXES, BOXES + 1), (BOXES, BOXES[0], "mean")]),
    "clip_boxes_to_image": [(BOXES, (6, 7)), (BOXES_3D, (3, 6, 7))],
    "remove_small_boxes": [(BOXES, 4.5), (BOXES_3D, 4.5)],
    "masks_to_boxes": [(IMAGE[0] > 0.4,), (VOLUME[0],)],
    "nms": [(BOXES, wave(6), 0.3), (BOXES_3D, wave(6), 0.3)],
    **shared(("roi_align", "roi_pool"), [(IMAGE, ROIS, 2), (IMAGE, [ROIS[:, 1:], ROIS[:2, 1:]], (2, 3), 0.5),
                                         (VOLUME, ROIS_3D, (1, 2, 2))]),
    "batched_nms": [(BOXES, wave(6), np.arange(6) % 2, 0.3)],
    "sigmoid_focal_loss": [(ANY, wave(3, 4, low=0, high=1)), (ANY, TRUE, -1, 1.5, "mean")],
    "focal_loss": [(ANY, CLASSES), (IMAGE, WHOLE_IMAGE, CHANNEL), (ANY, wave(3, 4, low=0, high=0.5))],
    **shared(("dice_loss", "tversky_loss"), [(POSITIVE, CLASSES, CHANNEL, 3), (IMAGE, wave(2, 4, 6, 5, low=0))]),
}  # fmt: skip


def test_every_public_function_has_a_call():
    assert set(CALLS) == set(F.__all__)


def placed(values, dtype, array, wants):
    """Arguments of a call: arrays by a function that makes them, those of floats as Tensors if gradients are wanted."""

    def one(value):
        if isinstance(value, list):
            return [one(v) for v in value]
        if not isinstance(value, np.ndarray):
            return value
        made = array(value.astype(dtype) if value.dtype.kind == "f" else value)
        return fastconv.tensor(made, requires_grad=True) if wants and value.dtype.kind == "f" else made

    return [one(value) for value in values]


def results(name, arguments, dtype, array, wants):
    """What a call gives, and the gradients of its arguments."""
    fastconv.manual_seed(0)
    fixed = name in ("batch_norm", "instance_norm")  # whose running statistics are no Tensors
    made = placed(arguments[:1] if fixed else arguments, dtype, array, wants)
    if name in ("binary_cross_entropy_with_logits", "cross_entropy", "nll_loss"):  # whose factors have no gradient
        made = placed(arguments[:2], dtype, array, wants) + placed(arguments[2:], dtype, array, False)
    if fixed:
        made += placed(arguments[1:3], dtype, array, False) + placed(arguments[3:], dtype, array, wants)
    # A leaf that wants a gradient cannot be written to.
    y = getattr(F, name)(*([made[0] * 1, *made[1:]] if wants and name.endswith("_") else made))
    flat = list(y) if isinstance(y, (tuple, list)) else [y]
    if not wants:
        return flat
    roots = [v for v in flat if isinstance(v, fastconv.Tensor) and v.requires_grad]
    leaves = [v for m in made for v in (m if isinstance(m, list) else [m]) if isinstance(v, fastconv.Tensor)]
    for root in roots:
        (root * root).sum().backward(retain_graph=True)
    return [v.data if isinstance(v, fastconv.Tensor) else v for v in flat] + [
        v.grad.data for v in leaves if v.grad is not None
    ]


@functools.cache
def _host(name, number, dtype, wants):
    with fastconv.use_backend("emulated"):
        return results(name, CALLS[name][number], dtype, lambda a: a, wants)


def on_second_gpu(cupy, array):
    with Device(1):
        return cupy.asarray(array)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(CALLS))
def test_results_are_those_of_numpy_arrays(cupy, name, dtype):
    for number, arguments in enumerate(CALLS[name]):
        for wants in (False, True):
            log.clear()
            ours = results(name, arguments, dtype, functools.partial(on_second_gpu, cupy), wants)
            waits = [entry for entry in log if entry[0] in HOST]
            assert len(waits) == (1 if name in COUNTED else 0), "a call waited for the GPU"
            assert current == [0]
            theirs = _host(name, number, dtype, wants)
            assert len(ours) == len(theirs)
            for a, b in zip(ours, theirs, strict=True):
                assert isinstance(a, ndarray)
                assert a.device.id == 1
                assert (a.shape, a.dtype) == (b.shape, b.dtype), (number, wants)
                tolerance = 16 * DTYPES.get(b.dtype.name, 0)
                a, b = (v.astype("float64") for v in (a.get(), b))
                np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=f"{number} {wants}")


@pytest.mark.parametrize("function", [F.argmax, F.argmin])
def test_of_several_nan_the_first_is_found(cupy, function):
    x = ANY.copy()
    x[1, 1:3] = x[2, 3] = np.nan
    np.testing.assert_array_equal(function(cupy.asarray(x), 1).get(), function(x, 1))
    assert function(cupy.asarray(x)).get() == 5


def test_pyramids_of_features_wait_for_no_gpu(cupy):
    layer = ops.MultiScaleRoIAlign(["0", "1"], 2, 2)
    features = {"0": wave(2, 3, 16, 12), "1": wave(2, 3, 8, 6)}
    boxes = [10 * BOXES[:2], np.array([[0.0, 0, 400, 300]])]
    with fastconv.use_backend("emulated"):
        expected = layer(features, boxes, [(128, 96)])
    there = {key: on_second_gpu(cupy, value) for key, value in features.items()}
    log.clear()
    y = layer(there, [on_second_gpu(cupy, part) for part in boxes], [(128, 96)])
    assert not [entry for entry in log if entry[0] in HOST]
    np.testing.assert_array_equal(y.get(), expected)


@pytest.mark.parametrize("classes", [[0, 4, 1], [0, -1, 1]])
def test_what_the_cpu_refuses_is_nan_on_a_gpu(cupy, classes):
    """Nobody waits for a GPU to say that a class or a probability is out of range."""
    x, target = cupy.asarray(ANY.astype("f4")), cupy.asarray(np.array(classes))
    for loss in (F.nll_loss, F.cross_entropy):
        leaf = fastconv.tensor(x, requires_grad=True)
        y = loss(leaf, target, reduction="none")
        y.sum().backward()
        np.testing.assert_array_equal(np.isnan(y.data.get()), [False, True, False])
        assert np.isnan(loss(x, target).get())
        assert np.isnan(leaf.grad.data.get()[1, 0 if loss is F.nll_loss else slice(None)]).all()
    assert np.isnan(F.binary_cross_entropy(2 * abs(x), abs(x)).get())
    np.testing.assert_array_equal(F.one_hot(target, 3).get()[1], 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.AdamW])
def test_training_waits_for_no_gpu_and_needs_none_to_be_current(cupy, make, dtype):
    def trained(device):
        fastconv.manual_seed(0)
        layers = nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.25), nn.Flatten(), nn.Linear(72, 3)
        network = nn.Sequential(*layers).to(device, dtype)
        options = {"momentum": 0.9, "nesterov": True} if make is optim.SGD else {"amsgrad": True}
        optimizer = make(network.parameters(), lr=0.01, weight_decay=0.1, **options)
        x, target = (fastconv.tensor(a).to(device) for a in (IMAGE.astype(dtype), np.array([2, 0])))
        log.clear()
        for _ in range(3):
            optimizer.zero_grad(set_to_none=False)
            F.cross_entropy(network(x), target).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            nn.utils.clip_grad_value_(network.parameters(), 0.2)
            optimizer.step()
        assert not [entry for entry in log if entry[0] in HOST]
        optimizer.load_state_dict(optimizer.state_dict())
        network.load_state_dict(network.state_dict())
        return network.state_dict()

    ours = trained("cuda:1")
    with fastconv.use_backend("emulated"):
        theirs = trained("cpu")
    for key, value in ours.items():
        assert value.device.id == 1
        a, b = (v.astype("float64") for v in (value.get(), theirs[key]))
        np.testing.assert_allclose(a, b, rtol=16 * DTYPES[dtype], atol=16 * DTYPES[dtype], err_msg=key)


def parameters(function):
    """Names of a function's parameters; compiled methods of CuPy have their signature in the first line of the text."""
    try:
        return set(inspect.signature(function).parameters)
    except ValueError:
        signature = function.__doc__.partition("(")[2].partition(")")[0]
        return {part.partition("=")[0].strip(" *").rpartition(" ")[2] for part in signature.split(",")}  # of C type


def test_the_stand_in_has_nothing_that_cupy_lacks():
    real = pytest.importorskip("cupy")
    assert not [name for name in FUNCTIONS if not hasattr(real, name)]
    for ours, theirs in ((module(), real), (ndarray, real.ndarray)):
        for name, function in vars(ours).items():
            if not name.startswith("_") and callable(function) and function is not ndarray:
                assert parameters(function) <= parameters(getattr(theirs, name)), name
