"""Memory of results on the CPU: when a block is used again, and when it is not."""

import gc
import multiprocessing
import threading

import numpy as np
import pytest

from fastconv import blocks, cpu

FLOAT = np.dtype("float32")
SIZE = (1024, 1024)  # 4 MB


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(blocks, "_blocks", blocks._Blocks())


def address(array):
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int64"])
def test_an_array_is_like_one_of_numpy(dtype):
    array = blocks.empty((3, 100_000, 2), np.dtype(dtype))
    assert (array.shape, array.dtype, array.flags.c_contiguous) == ((3, 100_000, 2), np.dtype(dtype), True)
    assert array.flags.writeable and array.flags.aligned and address(array) % 64 == 0
    array[...] = 7
    assert (array == 7).all()


@pytest.mark.parametrize("shape", [(), (0,), (0, 5), (7,), (100,)])
def test_small_arrays_are_malloc_s(shape):
    assert blocks.empty(shape, FLOAT).shape == shape
    assert blocks.held() == (0, 0)


def test_a_dtype_without_a_letter_is_numpy_s():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    assert blocks.empty(SIZE, np.dtype(bfloat16)).dtype == bfloat16
    assert blocks.held() == (0, 0)


def test_memory_is_used_again():
    first = blocks.empty(SIZE, FLOAT)
    where = address(first)
    assert blocks.held() == (4 << 20, 0)
    del first
    assert blocks.held() == (0, 4 << 20)
    second = blocks.empty((4 << 20,), np.dtype("uint8"))
    assert address(second) == where


@pytest.mark.parametrize("view", [lambda a: a[3:5], lambda a: a.T[::2], lambda a: a.view("u1"), memoryview, np.asarray])
def test_memory_in_use_through_a_view_is_not_used_again(view):
    array = blocks.empty(SIZE, FLOAT)
    where = address(array)
    kept = view(array[1:].reshape(-1)[5:].reshape(-1, 1)) if view is not memoryview else view(array)
    del array
    gc.collect()
    assert blocks.held() == (4 << 20, 0)
    assert address(blocks.empty(SIZE, FLOAT)) != where
    del kept
    assert blocks.held()[0] == 0


def test_the_peak_is_never_that_of_two_sizes():
    a = blocks.empty((8 << 20,), np.dtype("uint8"))
    del a
    b = blocks.empty((6 << 20,), np.dtype("uint8"))
    assert blocks.held() == (6 << 20, 0)  # beside it the old block would be more than was ever in use at once
    del b
    c, d = (blocks.empty((4 << 20,), np.dtype("uint8")) for _ in range(2))
    assert blocks.held() == (8 << 20, 0)
    del c, d
    e = blocks.empty((2 << 20,), np.dtype("uint8"))
    assert blocks.held() == (2 << 20, 4 << 20)  # one of the two still fits under the most so far
    assert e.size == 2 << 20


def test_no_more_than_a_bound_is_kept(monkeypatch):
    monkeypatch.setattr(blocks, "MOST_IDLE", 9 << 20)
    arrays = [blocks.empty(SIZE, FLOAT) for _ in range(4)]
    assert blocks.held() == (16 << 20, 0)
    arrays.clear()
    assert blocks.held() == (0, 8 << 20)
    blocks.release()
    assert blocks.held() == (0, 0)


def test_results_that_die_inside_other_calls_and_threads():
    def churn(seed):
        rng = np.random.default_rng(seed)
        kept = {}
        for i in range(300):
            array = blocks.empty((int(rng.integers(1 << 15, 1 << 18)),), FLOAT)
            array[...] = i
            ring = [array]
            ring.append(ring)  # only the garbage collector lets go of it, wherever that may run
            kept[i % 5] = (i, array)
            for number, other in kept.values():
                if not (other == number).all():
                    failures.append((seed, i, number))

    failures = []
    workers = [threading.Thread(target=churn, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    gc.collect()
    assert failures == []
    assert blocks.held()[0] == 0


def _child(array, results):
    mine = blocks.empty(SIZE, FLOAT)
    mine[...] = 2
    before = float(array.sum())
    del array
    gc.collect()
    results.put((before, float(mine.sum())))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_a_fork_has_blocks_of_its_own():
    array = blocks.empty(SIZE, FLOAT)
    array[...] = 1
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    with blocks._blocks.lock:  # which nobody would release in the child
        child = context.Process(target=_child, args=(array, results))
        child.start()
    assert results.get(timeout=60) == (array.size, 2 * array.size)
    child.join(60)
    assert child.exitcode == 0


def test_operators_take_their_results_from_here():
    x = np.ones((2, 8, 64, 64), "float32")
    mean = np.zeros(8, "float32")
    y = cpu.batch_norm_forward(x, mean, mean + 1, None, None, 0.0)
    where = address(y)
    assert blocks.held()[0] == y.nbytes
    del y
    assert address(cpu.unary_forward(x, "relu", ())) == where
