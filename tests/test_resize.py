"""Resizing: PyTorch's sizes, neighbours, values, gradients and refusals."""

import fractions

import ml_dtypes
import numpy as np
import pytest
import torch.nn.functional as T

import fastconv.functional as F
from fastconv import cpu, nn, reference, resize
from fastconv.creation import tensor
from fastconv.errors import DTypeError, ShapeError
from tests.gradients import check_gradients
from tests.storage import storages
from tests.witness import as_torch, check_like_torch, torch

# size, options of the target
TARGETS = [
    ((1,), dict(size=1)),
    ((5,), dict(size=11)),
    ((7,), dict(scale_factor=2)),
    ((9,), dict(scale_factor=0.37)),
    ((9,), dict(scale_factor=2.4, recompute_scale_factor=True)),
    ((4, 5), dict(size=(8, 10))),
    ((4, 5), dict(scale_factor=2)),
    ((4, 5), dict(scale_factor=(1.3, 0.6))),
    ((4, 5), dict(scale_factor=(1.3, 0.6), recompute_scale_factor=True)),
    ((4, 5), dict(size=(4, 5))),
    ((6, 1), dict(size=(1, 3))),
    ((11, 9), dict(size=(3, 2))),
    ((3, 4, 2), dict(size=(6, 3, 5))),
    ((3, 4, 2), dict(scale_factor=2.0)),
    ((3, 4, 2), dict(scale_factor=(2.5, 0.5, 1.7))),
]
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
PLANE = [
    dict(mode="bicubic"), dict(mode="bicubic", align_corners=True), dict(mode="bilinear", antialias=True),
    dict(mode="bilinear", align_corners=True, antialias=True), dict(mode="bicubic", antialias=True),
    dict(mode="bicubic", align_corners=True, antialias=True), dict(mode="lanczos", antialias=True),
]  # fmt: skip


def rules(rank):
    found = [
        dict(mode="nearest"), dict(mode="nearest-exact"), dict(mode="area"), dict(mode=LINEAR[rank]),
        dict(mode=LINEAR[rank], align_corners=True),
    ]  # fmt: skip
    return found + PLANE if rank == 2 else found


CALLS = [(size, {**target, **rule}) for size, target in TARGETS for rule in rules(len(size))]


def images(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def last(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


@pytest.mark.parametrize("size, options", CALLS, ids=str)
def test_interpolate_is_pytorchs(size, options):
    x = images(2, 3, *size)

    def ours(v):
        return F.interpolate(v, **options)

    def theirs(v):
        return T.interpolate(v, **options)

    check_like_torch(ours, theirs, x)
    check_like_torch(ours, theirs, x.astype("float32"), rtol=4e-6, atol=2e-6)
    check_gradients(ours, x)
    np.testing.assert_allclose(F.interpolate(last(x), **options), F.interpolate(x, **options), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16])
@pytest.mark.parametrize("rule", rules(2), ids=str)
def test_halves_are_rounded_once(dtype, rule):
    x = images(2, 3, 5, 7).astype(dtype)
    y = F.interpolate(x, size=(9, 4), **rule)
    expected = T.interpolate(as_torch(x.astype("float32")), size=(9, 4), **rule).numpy()
    assert y.dtype == x.dtype
    np.testing.assert_allclose(y.astype("float32"), expected, rtol=float(ml_dtypes.finfo(dtype).eps), atol=1e-6)


@pytest.mark.parametrize("rule", [dict(mode="nearest"), dict(mode="nearest-exact"), *PLANE], ids=str)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_bytes_are_exactly_pytorchs(rule, channels):
    x = np.random.default_rng(0).integers(0, 256, (2, channels, 17, 14)).astype("uint8")
    x[0, 0] = np.where(x[0, 0] < 128, 0, 255)
    for options in (dict(size=(5, 40)), dict(size=(31, 3)), dict(size=(17, 9)), dict(scale_factor=(1.3, 0.6))):
        for image in (x, last(x)):
            y = F.interpolate(image, **options, **rule)
            np.testing.assert_array_equal(y, T.interpolate(as_torch(image), **options, **rule).numpy())
            assert y.dtype == "uint8"
        assert np.moveaxis(y, 1, -1).flags.c_contiguous
    assert not F.interpolate(tensor(x), 5, **rule).requires_grad


@pytest.mark.parametrize("size", [(7,), (3, 4, 5)])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_bytes_of_signals_and_volumes(size, mode):
    x = np.random.default_rng(0).integers(0, 256, (2, 3, *size)).astype("uint8")
    for options in (dict(scale_factor=1.7), dict(size=5), dict(size=2)):
        expected = T.interpolate(as_torch(x), mode=mode, **options).numpy()
        np.testing.assert_array_equal(F.interpolate(x, mode=mode, **options), expected)


@pytest.mark.parametrize("rule", PLANE, ids=str)
def test_images_that_shrink_and_grow_a_lot(rule):
    x = images(1, 2, 61, 47)
    for size in ((5, 94), (150, 3), (61, 20)):
        check_like_torch(lambda v: F.interpolate(v, size, **rule), lambda v: T.interpolate(v, size, **rule), x)  # noqa: B023


@pytest.mark.parametrize("rule", [dict(mode="bilinear"), dict(mode="bicubic"), dict(mode="lanczos")], ids=str)
def test_columns_of_one_pixel_are_those_of_the_rows(rule):
    """PyTorch resizes every row of a result of one column by the weights of the first, but columns of one row well."""
    x = images(2, 3, 10, 1)
    y = F.interpolate(x, (4, 1), antialias=True, **rule)
    turned = T.interpolate(as_torch(x).transpose(2, 3).contiguous(), (1, 4), antialias=True, **rule)
    np.testing.assert_allclose(y, turned.transpose(2, 3).numpy(), rtol=1e-12, atol=1e-14)


def test_gradients_of_antialias_are_those_of_its_result():
    """PyTorch's are not where a scale factor keeps the size of an axis: it then copies the axis, but not back."""
    check_gradients(
        lambda x: F.interpolate(x, scale_factor=(1.2, 0.6), mode="bilinear", antialias=True), images(1, 2, 4, 5)
    )


@pytest.mark.filterwarnings("ignore:.*is deprecated")
@pytest.mark.parametrize("name", ["upsample", "upsample_nearest", "upsample_bilinear"])
def test_old_names(name):
    x = images(2, 3, 4, 5)
    for options in (dict(size=(3, 7)), dict(scale_factor=2), dict(scale_factor=1.3)):
        check_like_torch(lambda v: getattr(F, name)(v, **options), lambda v: getattr(T, name)(v, **options), x)  # noqa: B023
    check_like_torch(
        lambda v: F.upsample(v, (3, 7), None, "bicubic", True),
        lambda v: T.upsample(v, (3, 7), None, "bicubic", True),
        x,
    )


@pytest.mark.parametrize("seed", range(4))
def test_nearest_neighbours_of_images_are_pytorchs(seed):
    """Of up to 128 rows and columns they are found by another formula than of larger ones."""
    rng = np.random.default_rng(seed)
    for _ in range(100):
        size, output = (int(n) for n in rng.integers(1, 90, 2))
        factor = float(rng.choice([rng.uniform(0.3, 4), rng.uniform(1, 1 + 1 / size), rng.uniform(2, 2 + 1 / size)]))
        for dtype in ("float32", "float64"):
            x = np.arange(3 * size, dtype=dtype).reshape(1, 1, 3, size)
            for mode in ("nearest", "nearest-exact"):
                for options in (dict(size=(2, output)), dict(scale_factor=(1.1, max(factor, 1 / size)))):
                    np.testing.assert_array_equal(
                        F.interpolate(x, mode=mode, **options),
                        T.interpolate(as_torch(x), mode=mode, **options).numpy(),
                        err_msg=f"{size} {options} {dtype} {mode}",
                    )


@pytest.mark.parametrize("seed", range(4))
def test_nearest_neighbours_are_pytorchs(seed):
    """Where rounding decides on a neighbour, it decides as in PyTorch: in these sizes it does in about 3 in 100."""
    rng = np.random.default_rng(seed)
    for _ in range(150):
        size, output = (int(n) for n in rng.integers(1, 400, 2))
        factor = float(rng.uniform(0.3, 4))
        for dtype in ("float32", "float64"):
            x = np.arange(size, dtype=dtype)[None, None]
            for mode in ("nearest", "nearest-exact"):
                np.testing.assert_array_equal(
                    F.interpolate(x, output, mode=mode), T.interpolate(as_torch(x), output, mode=mode).numpy()
                )
                if size * factor >= 1:
                    np.testing.assert_array_equal(
                        F.interpolate(x, scale_factor=factor, mode=mode),
                        T.interpolate(as_torch(x), scale_factor=factor, mode=mode).numpy(),
                    )


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("dtype, tolerance", [("float32", 5e-7), ("float64", 1e-15)])
def test_coordinates_of_long_axes_are_pytorchs(dtype, tolerance, align_corners):
    rng = np.random.default_rng(0)
    for _ in range(40):
        size, output = (int(n) for n in rng.integers(1, 1000, 2))
        x = rng.standard_normal((1, 1, size)).astype(dtype)
        y = F.interpolate(x, output, mode="linear", align_corners=align_corners)
        expected = T.interpolate(as_torch(x), output, mode="linear", align_corners=align_corners).numpy()
        np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_coordinates_are_rounded_once(dtype):
    number = np.dtype(dtype).type
    rng = np.random.default_rng(0)
    for size, output in rng.integers(1, 3000, (200, 2)):
        (axis,) = resize.axes((int(size),), (int(output),), "linear", False, None, np.dtype(dtype))
        p = rng.integers(0, output, 5)
        exact = [
            fractions.Fraction(axis.scale) * fractions.Fraction(2 * int(i) + 1, 2) - fractions.Fraction(1, 2) for i in p
        ]
        found = resize._coordinates(axis, p.astype(dtype))
        for r, e in zip(found, exact, strict=True):
            assert r == number(float(e)) or (r < 0 and e < 0)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear"])
def test_special_values_are_pytorchs(mode):
    x = np.array([[[1.0, np.inf, 2.0, 3.0], [np.nan, 1, -np.inf, np.inf], [0, 0, 0, np.inf]]])
    for options in (dict(size=8), dict(size=3), dict(size=4), dict(size=7)):
        for align in (None,) if mode != "linear" else (False, True):
            options = {**options, "mode": mode, "align_corners": align}
            np.testing.assert_allclose(F.interpolate(x, **options), T.interpolate(as_torch(x), **options).numpy())


@pytest.mark.parametrize("rule", PLANE, ids=str)
def test_special_values_of_filters_are_pytorchs(rule):
    x = images(1, 3, 6, 7)
    x[0, 0, 0, 0], x[0, 0, 5, 3], x[0, 1, 2, 6], x[0, 2, 3, 3] = np.inf, -np.inf, np.inf, np.nan
    for size in ((12, 14), (3, 2), (6, 7), (5, 9)):
        np.testing.assert_allclose(
            F.interpolate(x, size, **rule), T.interpolate(as_torch(x), size, **rule).numpy(), rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("name", ["resize_forward", "resize_input_grad"])
def test_storage_changes_nothing(name):
    rules = [("nearest", False, None), ("linear", True, None), ("linear", False, (1.7, 0.8)), ("cubic", False, None)]
    for rule in (*rules, ("cubic-antialias", True, None)):
        x = images(2, 3, 4, 5)
        expected = getattr(reference, name)(x, (7, 4), *rule)
        for storage, stored in storages(x):
            y = getattr(cpu, name)(stored, (7, 4), *rule)
            np.testing.assert_allclose(y, expected, rtol=1e-13, atol=1e-14, err_msg=storage)


def test_the_format_of_the_input_is_kept():
    x = images(2, 3, 4, 5)
    assert np.moveaxis(F.interpolate(last(x), scale_factor=2), 1, -1).flags.c_contiguous
    assert F.interpolate(x, scale_factor=2).flags.c_contiguous


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (0, 0, 3, 4)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_empty_batches(shape, mode):
    for backend in (reference, cpu):
        output = tuple(2 * n for n in shape[2:])
        assert backend.resize_forward(np.ones(shape), output, mode, False, None).shape == (*shape[:2], *output)
        assert backend.resize_input_grad(np.ones(shape), output, mode, False, None).shape == (*shape[:2], *output)


LAYERS = [
    ("Upsample", dict(scale_factor=2)),
    ("Upsample", dict(size=(3, 7), mode="bilinear")),
    ("Upsample", dict(scale_factor=(1.5, 2.5), mode="bilinear", align_corners=True)),
    ("Upsample", dict(scale_factor=1.3, mode="bilinear", recompute_scale_factor=True)),
    ("Upsample", dict(size=(6, 4), mode="bicubic", align_corners=True)),
    ("Upsample", dict(scale_factor=0.7, mode="area")),
    ("Upsample", dict(scale_factor=1.7, mode="nearest-exact")),
    ("UpsamplingNearest2d", dict(size=9)),
    ("UpsamplingBilinear2d", dict(scale_factor=2)),
]


@pytest.mark.parametrize("name, options", LAYERS, ids=str)
def test_layers_are_pytorchs(name, options):
    ours, theirs = getattr(nn, name)(**options), getattr(torch.nn, name)(**options)
    x = images(2, 3, 4, 5)
    np.testing.assert_allclose(ours(tensor(x)).numpy(), theirs(as_torch(x)).numpy(), rtol=1e-12, atol=1e-14)
    assert repr(ours) == repr(theirs)


X = images(2, 3, 4, 5)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: F.interpolate(X), ShapeError, "interpolate: size and scale_factor: got neither"),
        (lambda: F.interpolate(X, 3, 2), ShapeError, "interpolate: size and scale_factor: got both"),
        (lambda: F.interpolate(X, (3, 4, 5)), ShapeError, r"interpolate: size: got \[3, 4, 5\]"),
        (lambda: F.interpolate(X, 0), ShapeError, "interpolate: size: got 0"),
        (lambda: F.interpolate(X, 2.5), DTypeError, "interpolate: size: got float"),
        (lambda: F.interpolate(X, scale_factor=(2, 2, 2)), ShapeError, r"interpolate: scale_factor: got \[2, 2, 2\]"),
        (lambda: F.interpolate(X, scale_factor="a"), DTypeError, "interpolate: scale_factor: got str"),
        (lambda: F.interpolate(X, scale_factor=0.1), ShapeError, "interpolate: scale_factor: got 0.1"),
        (lambda: F.interpolate(X, scale_factor=-1), ShapeError, "interpolate: scale_factor: got -1"),
        (lambda: F.interpolate(X, scale_factor=np.inf), ShapeError, "interpolate: scale_factor: got inf"),
        (lambda: F.interpolate(X, 3, recompute_scale_factor=True), ShapeError, "recompute_scale_factor: got True"),
        (lambda: F.interpolate(X, (3,)), ShapeError, r"interpolate: size: got \[3\]"),
        (lambda: F.interpolate(X, 3, mode="cubic"), ShapeError, "interpolate: mode: got 'cubic'"),
        (lambda: F.interpolate(X[:, 0], 3, mode="bicubic"), ShapeError, "interpolate: mode: got 'bicubic'"),
        (lambda: F.interpolate(X, 3, mode="linear"), ShapeError, "mode: got 'linear', .* 'bilinear' .* for 2"),
        (lambda: F.interpolate(X, 3, mode="area", align_corners=True), ShapeError, "align_corners: got True"),
        (lambda: F.interpolate(X, 3, mode="area", antialias=True), ShapeError, "antialias: got True"),
        (lambda: F.interpolate(X, 3, mode="lanczos"), ShapeError, "antialias: got False"),
        (lambda: F.interpolate(X, 3, None, "lanczos", True, None, True), ShapeError, "align_corners: got True"),
        (lambda: F.interpolate(X[:, :0], 3), ShapeError, r"interpolate: input: got \[2, 0, 4, 5\]"),
        (lambda: F.interpolate(X, 3, align_corners=False), ShapeError, "align_corners: got False"),
        (lambda: F.interpolate(X, 3, mode="nearest", antialias=True), ShapeError, "antialias: got True"),
        (lambda: F.interpolate(X[0, 0], 3), ShapeError, r"interpolate: input: got \[4, 5\]"),
        (lambda: F.interpolate(X[..., :0], 3), ShapeError, r"interpolate: input: got \[2, 3, 4, 0\]"),
        (lambda: F.interpolate(X.astype(int), 3), DTypeError, "interpolate: input: got int64"),
        (lambda: F.interpolate(X[0].astype("uint8"), 3, mode="linear"), DTypeError, "interpolate: input: got uint8"),
        (lambda: F.interpolate(X.astype("uint8"), 3, mode="area"), DTypeError, "interpolate: input: got uint8"),
        (lambda: F.interpolate([1.0], 3), DTypeError, "interpolate: input: got list"),
        (lambda: reference.resize_forward(X, (3, 3), "bicubic", False, None), ShapeError, "mode: got 'bicubic'"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()
