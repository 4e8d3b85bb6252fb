"""Tiles of every height and width: each element once, none beyond, and what the last slice adds."""

import numpy as np
import pytest

from fastconv.cpu.jit import kernel
from fastconv.cpu.microkernel import ROWS, panel
from fastconv.cpu.microkernel_parts import (
    ACCUMULATE,
    ADD_COLUMNS,
    ADD_ROWS,
    AHEAD,
    RECTIFY,
    TOUCH,
    copy_run,
    gemm_part,
)


@kernel
def product(rows, lanes, depth, a, a_row, a_depth, b, b_depth, c, c_at, c_row, d, what, ahead):
    """C of one tile in as many calls as it takes; gives how many."""
    calls, i = 0, 0
    while i < rows:
        d_at = i if what & ADD_ROWS else 0
        i += gemm_part(
            rows - i, lanes, depth, a, i * a_row, a_row, a_depth, b, 0, b_depth, c, c_at + i * c_row, c_row, d, d_at,
            what, b, 0, ahead, ahead * AHEAD,
        )  # fmt: skip
        calls += 1
    return calls


@kernel
def copy(target, target_at, source, source_at, count):
    copy_run(target, target_at, source, source_at, count)


def operands(dtype, depth, seed=0):
    rng = np.random.default_rng(seed)
    width = panel(np.dtype(dtype))
    a = rng.integers(-4, 5, (ROWS, depth)).astype(dtype)  # whole numbers: every order of a sum gives the same
    b = rng.integers(-4, 5, (depth, width)).astype(dtype)
    c = rng.integers(-4, 5, (ROWS, width)).astype(dtype)
    return a, b, c, width


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "what",
    [0, ACCUMULATE, TOUCH, ADD_COLUMNS, ADD_ROWS | RECTIFY, ACCUMULATE | ADD_COLUMNS | RECTIFY],
)
def test_every_height_and_width(what, dtype):
    depth = 19
    a, b, before, width = operands(dtype, depth)
    d = np.arange(-5, max(ROWS, width) - 5).astype(dtype)
    for rows in range(1, ROWS + 1):
        for lanes in range(1, width + 1):
            full = np.full((ROWS + 2, width + 5), 77, dtype)
            full[1 : rows + 1, 2 : lanes + 2] = before[:rows, :lanes]
            expected = full.copy()
            sums = a[:rows] @ b[:, :lanes] + (before[:rows, :lanes] if what & ACCUMULATE else 0)
            sums = sums + (d[:lanes] if what & ADD_COLUMNS else 0) + (d[:rows, None] if what & ADD_ROWS else 0)
            expected[1 : rows + 1, 2 : lanes + 2] = np.maximum(sums, 0) if what & RECTIFY else sums
            c_at = full.shape[1] + 2
            product(
                rows, lanes, depth, a.ravel(), depth, 1, b.ravel(), width, full.reshape(-1), c_at, full.shape[1], d,
                what, rows % 2,
            )  # fmt: skip
            np.testing.assert_array_equal(full, expected)


def test_operands_may_lie_any_way():
    a, b, c, width = operands("float32", 23)
    wide = np.zeros((23, width + 3), "f4")
    wide[:, :width] = b
    calls = product(
        ROWS, width, 23, np.ascontiguousarray(a.T).ravel(), 1, ROWS, wide.ravel(), width + 3, c.reshape(-1), 0, width,
        c.reshape(-1)[:0], 0, 1,
    )  # fmt: skip
    assert calls == 1
    np.testing.assert_array_equal(c, a @ b)


def test_a_rectifier_passes_nan():
    a, b, c, width = operands("float32", 3)
    a[1, 1] = np.nan
    product(ROWS, width, 3, a.ravel(), 3, 1, b.ravel(), width, c.reshape(-1), 0, width, c.reshape(-1)[:0], RECTIFY, 0)
    assert np.isnan(c[1]).all()
    assert not np.isnan(np.delete(c, 1, axis=0)).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_copies_reach_no_further(dtype):
    source = np.arange(100).astype(dtype)
    for count in range(0, 70):
        target = np.full(100, -1, dtype)
        copy(target, 7, source, 3, count)
        expected = np.full(100, -1, dtype)
        expected[7 : 7 + count] = source[3 : 3 + count]
        np.testing.assert_array_equal(target, expected)
