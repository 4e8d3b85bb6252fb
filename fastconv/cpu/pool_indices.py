"""Gather and scatter by the indices of maxima: x, dx [planes, size, lanes], y, dy [planes, outputs, lanes].

One lane a plane for channels first, all channels as lanes for channels last. An index out of range is
never followed, but reported in `faults`: a caller may have changed the indices since they were found.
"""

from fastconv.cpu.jit import get, kernel, put


@kernel
def gather(first, last, x, indices, y, sizes, faults):
    """y[plane, o, lane] = x[plane, indices[plane, o, lane], lane]; a task is one o of one plane."""
    size, outputs, lanes = sizes[0], sizes[1], sizes[2]
    for task in range(first, last):
        plane = task // outputs * size
        for lane in range(lanes):
            i = get(indices, task * lanes + lane)
            if i < 0 or i >= size:
                faults[0] = 1
                i = 0
            put(y, task * lanes + lane, get(x, (plane + i) * lanes + lane))


@kernel
def scatter(first, last, dy, indices, dx, sizes, faults):
    """dx[plane, indices[plane, o, lane], lane] += dy[plane, o, lane], o by o; a task is a block of lanes of a plane.

    With adds, the last of sizes, 0 it is = instead of +=.
    """
    size, outputs, lanes, block, adds = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4] == 1
    blocks = -(-lanes // block)
    for task in range(first, last):
        plane = task // blocks * size
        source = task // blocks * outputs
        begin = task % blocks * block
        end = min(begin + block, lanes)
        if end - begin == lanes:
            for i in range(plane * lanes, (plane + size) * lanes):
                put(dx, i, 0)
        else:
            for i in range(plane, plane + size):
                for lane in range(begin, end):
                    put(dx, i * lanes + lane, 0)
        if lanes == 1:
            for o in range(source, source + outputs):
                i = get(indices, o)
                if i < 0 or i >= size:
                    faults[0] = 1
                    continue
                put(dx, plane + i, get(dx, plane + i) + get(dy, o) if adds else get(dy, o))
            continue
        for o in range(source, source + outputs):
            for lane in range(begin, end):
                i = get(indices, o * lanes + lane)
                if i < 0 or i >= size:
                    faults[0] = 1
                    continue
                at = (plane + i) * lanes + lane
                value = get(dy, o * lanes + lane)
                put(dx, at, get(dx, at) + value if adds else value)
