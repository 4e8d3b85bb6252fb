"""Weight gradients of depthwise convolution."""

from fastconv.cpu.conv_patches import inside
from fastconv.cpu.jit import get, kernel, put

SPLITS = 16  # of the rows of a channels-last weight gradient


@kernel
def depthwise_weight_grad_first(first, last, x, dy, dw, sampling, offsets):
    """dw[filter, tap] for channels first; a task is one filter."""
    filters = sampling.groups * sampling.filters
    length = sampling.count[2]
    step = sampling.step[2]
    for f in range(first, last):
        for t in range(sampling.taps):
            put(dw, f * sampling.taps + t, 0)
        for image in range(sampling.batch):
            plane = (image * sampling.groups + f // sampling.filters) * sampling.size[0]
            for t in range(sampling.taps):
                total = x.dtype.type(0)
                low, high = inside(0, length, step, offsets[3 * t + 2], sampling.size[2])
                for o in range(sampling.count[0]):
                    d = o * sampling.step[0] + offsets[3 * t]
                    if d < 0 or d >= sampling.size[0]:
                        continue
                    for p in range(sampling.count[1]):
                        h = p * sampling.step[1] + offsets[3 * t + 1]
                        if h < 0 or h >= sampling.size[1]:
                            continue
                        source = ((plane + d) * sampling.size[1] + h) * sampling.size[2] + offsets[3 * t + 2]
                        error = (((image * filters + f) * sampling.count[0] + o) * sampling.count[1] + p) * length
                        row = x.dtype.type(0)
                        if step == 1:
                            for i in range(low, high):
                                row += get(dy, error + i) * get(x, source + i)
                        else:
                            for i in range(low, high):
                                row += get(dy, error + i) * get(x, source + step * i)
                        total += row
                put(dw, f * sampling.taps + t, get(dw, f * sampling.taps + t) + total)


@kernel
def depthwise_weight_grad_last(first, last, x, dy, partial, sampling, offsets):
    """partial[split, tap, channel] for channels last; a task is one split of the rows of pixels."""
    channels = sampling.groups
    rows = sampling.batch * sampling.count[0] * sampling.count[1]
    for split in range(first, last):
        base = split * sampling.taps * channels
        for i in range(sampling.taps * channels):
            put(partial, base + i, 0)
        for row in range(rows * split // SPLITS, rows * (split + 1) // SPLITS):
            image = row // (sampling.count[0] * sampling.count[1])
            o = row // sampling.count[1] % sampling.count[0]
            p = row % sampling.count[1]
            for t in range(sampling.taps):
                d = o * sampling.step[0] + offsets[3 * t]
                h = p * sampling.step[1] + offsets[3 * t + 1]
                if d < 0 or d >= sampling.size[0] or h < 0 or h >= sampling.size[1]:
                    continue
                low, high = inside(0, sampling.count[2], sampling.step[2], offsets[3 * t + 2], sampling.size[2])
                line = ((image * sampling.size[0] + d) * sampling.size[1] + h) * sampling.size[2] + offsets[3 * t + 2]
                for q in range(low, high):
                    source = (line + q * sampling.step[2]) * channels
                    error = (row * sampling.count[2] + q) * channels
                    at = base + t * channels
                    for c in range(channels):
                        put(partial, at + c, get(partial, at + c) + get(dy, error + c) * get(x, source + c))


@kernel
def add_depthwise_splits(first, last, partial, dw, taps, channels):
    """dw[channel, tap] from the splits, in their order; a task is one tap."""
    for t in range(first, last):
        for c in range(channels):
            total = get(partial, t * channels + c)
            for split in range(1, SPLITS):
                total += get(partial, (split * taps + t) * channels + c)
            put(dw, c * taps + t, total)
