"""The error function against the one of the C library; its gradient is compared in test_elementwise.py."""

import math

import numpy as np
import pytest

import fastconv.functional as F
from fastconv.errors import DTypeError
from fastconv.functional.special import erf_values
from tests.gradients import check_gradients


def test_erf_is_exact_to_a_few_units_in_the_last_place():
    x = np.concatenate([np.linspace(-7, 7, 20001), np.logspace(-300, 0, 500), -np.logspace(-30, 0.5, 500)])
    want = np.array([math.erf(v) for v in x])
    assert (abs(erf_values(np, x) - want) <= 4 * np.spacing(abs(want))).all()
    single = x.astype("float32")
    want = np.array([math.erf(v) for v in single])
    y = erf_values(np, single)
    assert y.dtype == np.float32
    # Two units; below the smallest normal number the last place no longer shrinks.
    assert (abs(y - want) <= 2 * np.spacing(abs(want).astype("float32") + np.float32(1e-37))).all()
    assert (abs(y) <= 1).all()


def test_infinities_zeros_and_nan():
    for dtype in ("float32", "float64"):
        y = F.erf(np.array([np.inf, -np.inf, np.nan, 0.0, -0.0], dtype))
        np.testing.assert_array_equal(y, [1, -1, np.nan, 0, 0])
        np.testing.assert_array_equal(np.signbit(y[3:]), [False, True])


def test_derivatives_in_every_region():
    check_gradients(F.erf, np.array([0.0, 0.2, -0.4, 0.5, -1.5, 3.0, 4.5, -6.5]))


def test_refusal():
    with pytest.raises(DTypeError, match="erf: input: got float"):
        F.erf(0.5)
