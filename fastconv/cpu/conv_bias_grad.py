"""Kernels of the bias gradient: sums over everything but the channels, in float64.

They run over splits that are fixed by the shape, and whoever reads their partial sums adds them in their order.
"""

import numpy as np

from fastconv.cpu.jit import get, get_apart, kernel, put, put_apart

# Elements in a nanosecond of one thread, roughly: they only decide whether a call is worth a second thread.
SPEED = 1
_TASKS, _TASK_ELEMENTS = 64, 8192


def splits(images, channels, positions, last):
    """Among how many tasks the elements of a channel are split."""
    elements = images * channels * positions
    wanted = min(_TASKS, max(1, elements // _TASK_ELEMENTS))
    return min(wanted, images * positions) if last else min(-(-wanted // channels), images)


@kernel
def sums_first(first, last, dy, partial, sizes):
    """partial[split, channel] for dy [images, channels, positions]; a task is a channel of a split of the images."""
    images, channels, positions, splits = sizes
    for task in range(first, last):
        split, channel = task // channels, task % channels
        total = 0.0
        for image in range(images * split // splits, images * (split + 1) // splits):
            begin = (image * channels + channel) * positions
            for i in range(begin, begin + positions):
                total += get(dy, i)
        put(partial, task, total)


@kernel
def sums_last(first, last, dy, partial, sizes):
    """partial[split, channel] for dy [rows, channels]; a task is a split of the rows."""
    rows, channels, splits = sizes
    for split in range(first, last):
        base = split * channels
        for channel in range(channels):
            put(partial, base + channel, 0.0)
        begin, end = rows * split // splits, rows * (split + 1) // splits
        whole = end - (end - begin) % 8
        for row in range(begin, whole, 8):  # a partial sum is read and written once for all of them
            at = row * channels
            for channel in range(channels):
                total = np.float64(get_apart(dy, at + channel))
                for i in range(1, 8):
                    total += get_apart(dy, at + i * channels + channel)
                put_apart(partial, base + channel, get(partial, base + channel) + total)
        for row in range(whole, end):
            for channel in range(channels):
                put(partial, base + channel, get(partial, base + channel) + get(dy, row * channels + channel))
