"""Packed weights are remembered while their memory is frozen, and never longer."""

import gc
import threading

import numpy as np
import pytest

from fastconv import cpu
from fastconv.cpu import conv_packing
from fastconv.cpu.conv_packing import packed
from fastconv.window import Window


class Maker:
    """Copies w, and counts how often."""

    def __init__(self, w):
        self.w, self.calls = w, 0

    def __call__(self):
        self.calls += 1
        return self.w.copy()


def frozen(shape=(4, 3), dtype="f4"):
    w = np.arange(np.prod(shape)).astype(dtype).reshape(shape).copy()
    w.setflags(write=False)
    return w


def test_writeable_weights_are_packed_in_every_call():
    w = np.ones((4, 3), "f4")
    make = Maker(w)
    packed(w, "a", make)
    packed(w, "a", make)
    view = w[:]
    view.setflags(write=False)  # w itself can still be written
    packed(view, "a", make)
    packed(view, "a", make)
    assert make.calls == 4


def test_foreign_memory_is_packed_in_every_call():
    w = np.frombuffer(bytearray(48), "f4")
    w.setflags(write=False)
    make = Maker(w)
    packed(w, "a", make)
    packed(w, "a", make)
    assert make.calls == 2


def test_frozen_weights_are_packed_once_for_each_key_and_view():
    w = frozen()
    make = Maker(w)
    first = packed(w, "a", make)
    assert packed(w, "a", make) is first
    assert packed(w[:], "a", make) is first
    assert make.calls == 1
    others = [packed(w, "b", make), packed(w[1:], "a", make), packed(w[:, ::2], "a", make), packed(w.T, "a", make),
              packed(w.view("i4"), "a", make)]  # fmt: skip
    assert make.calls == 6
    assert all(other is not first for other in others)


def test_a_change_is_noticed():
    w = frozen()
    make = Maker(w)
    packed(w, "a", make)
    w.setflags(write=True)
    w[2, 1] = 77
    assert packed(w, "a", make)[2, 1] == 77
    w[2, 1] = 78
    w.setflags(write=False)
    assert packed(w, "a", make)[2, 1] == 78
    assert make.calls == 3
    packed(w, "a", make)
    assert make.calls == 3


def test_results_die_with_the_memory():
    w = frozen()
    view = w[1:]
    packed(view, "a", Maker(view))
    packed(w, "a", Maker(w))
    number = id(w)
    assert len(conv_packing._owners[number][1]) == 2
    del w
    gc.collect()
    assert number in conv_packing._owners  # the view keeps it alive
    del view
    gc.collect()
    assert number not in conv_packing._owners


def test_results_of_one_memory_are_bounded():
    w = frozen((600,))
    for i in range(600):
        packed(w[i:], "a", lambda: None)
    assert len(conv_packing._owners[id(w)][1]) == conv_packing._PER_OWNER


def test_many_threads_ask_at_once():
    arrays = [frozen((5, i + 1)) for i in range(8)]
    wrong = []

    def ask():
        for _ in range(200):
            for w in arrays:
                if not np.array_equal(packed(w, "a", w.copy), w):
                    wrong.append(w.shape)
            packed(*(lambda w: (w, "a", w.copy))(frozen()))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("dtype", ["float16", "float32", ">f4", "float64"])
@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
def test_frozen_filters_give_the_bits_of_unfrozen_ones(last, dtype):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 5, 9, 8)).astype(dtype)
    if last:
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    w = rng.standard_normal((7, 5, 3, 3)).astype(dtype)
    window = Window.conv(x, w, None, 2, 1, 1, 1, rank=2)
    y = cpu.conv_forward(x, w, None, window)
    dx = cpu.conv_input_grad(y, w, None, window)
    w.setflags(write=False)
    for _ in range(2):
        np.testing.assert_array_equal(cpu.conv_forward(x, w, None, window), y)
        np.testing.assert_array_equal(cpu.conv_input_grad(y, w, None, window), dx)
    w.setflags(write=True)
    w *= 2
    w.setflags(write=False)
    np.testing.assert_array_equal(cpu.conv_forward(x, w, None, window), 2 * y)
