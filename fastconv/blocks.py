"""Memory of results on the CPU: what nobody holds any more is kept for the results that come next.

The system clears every page that it hands out, and that takes longer than most kernels: on one core of an Intel
Sapphire Rapids, copying 32 MB took 2.5 ms into memory that was there and 8.1 ms into new memory. malloc gives large
blocks back at once, and so asks for them anew in every call.

A block returns when the last array that shares its memory is let go of. Blocks that are in use and blocks that are
kept together never exceed the most that was in use at once, so nothing here raises a program's peak. Results start at
a cache line.
"""

import math
import os
import threading
import weakref
from collections import OrderedDict, deque

import numpy

LEAST = 1 << 17  # bytes; what is smaller malloc keeps itself
MOST_IDLE = 1 << 30  # bytes that are kept while nobody uses them
_LINE = 64


class _Blocks:
    """Blocks that nobody uses, by their size, the sizes in the order of their last use."""

    def __init__(self):
        self.lock = threading.Lock()
        self.idle = OrderedDict()
        self.returned = deque()  # not yet among the idle: arrays may die anywhere, also where the lock is held
        self.idle_bytes = self.used_bytes = self.most_used = 0

    def take(self, size):
        """A block of that many bytes."""
        with self.lock:
            self.settle()
            blocks = self.idle.get(size)
            block = None
            if blocks:
                block = blocks.pop()
                self.idle_bytes -= size
                self.idle.move_to_end(size)
                if not blocks:
                    del self.idle[size]
            self.used_bytes += size
            self.most_used = max(self.most_used, self.used_bytes)
            self.shrink(self.most_used - self.used_bytes)
        return _new(size) if block is None else block

    def give(self, block):
        """Take a block back; never waits, since it is called wherever the last reference to an array goes."""
        self.returned.append(block)
        if self.lock.acquire(blocking=False):
            try:
                self.settle()
                self.shrink(MOST_IDLE)
            finally:
                self.lock.release()

    def settle(self):
        """Put what was returned among the idle."""
        while self.returned:
            block = self.returned.popleft()
            size = block.nbytes
            self.idle.setdefault(size, []).append(block)
            self.idle.move_to_end(size)
            self.idle_bytes += size
            self.used_bytes -= size

    def shrink(self, most):
        """Let go of blocks of the sizes that were not in use for longest until so many bytes are left."""
        while self.idle_bytes > most:
            size, blocks = next(iter(self.idle.items()))
            blocks.pop()
            self.idle_bytes -= size
            if not blocks:
                del self.idle[size]


_blocks = _Blocks()


def _new(size):
    """A memoryview of so many bytes that starts at a cache line."""
    memory = numpy.empty(size + _LINE, numpy.uint8)
    start = -memory.ctypes.data % _LINE
    return memoryview(memory[start : start + size])


class _Owner(weakref.ref):
    """Watches the array that every array on a block is a view of, and returns the block once no view is left."""

    __slots__ = ("block", "blocks")


_owners = {}  # a weak reference that nobody holds calls nobody


def _return(owner):
    del _owners[id(owner)]
    owner.blocks.give(owner.block)


def empty(shape, dtype):
    """An unwritten array, C-contiguous, as numpy.empty makes it but for where its memory comes from.

    Args:
        shape: Tuple of ints.
        dtype: Of the array, native.
    """
    count, dtype = math.prod(shape), numpy.dtype(dtype)
    size = count * dtype.itemsize
    if size < LEAST or dtype.kind not in "fiu":  # what a buffer has no letter for
        return numpy.empty(shape, dtype)
    step = 1 << (size.bit_length() - 4)  # eight sizes from one power of two to the next
    block = _blocks.take(-(-size // step) * step)
    # NumPy makes a view's base the array at the end of its chain, which is this one: a memoryview is no array.
    array = numpy.frombuffer(block, dtype, count)
    owner = _Owner(array, _return)
    owner.block, owner.blocks = block, _blocks
    _owners[id(owner)] = owner
    return array.reshape(shape)


def empty_like(array, shape=None):
    """An unwritten array of the dtype of another, native, and stored in the same order of axes.

    Args:
        array: The NumPy array.
        shape: Tuple of as many ints; None for the shape of the array.
    """
    shape = array.shape if shape is None else shape
    dtype = array.dtype.newbyteorder("=")
    order = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
    if array.flags.c_contiguous or order == list(range(array.ndim)):
        return empty(shape, dtype)
    return empty(tuple(shape[axis] for axis in order), dtype).transpose(numpy.argsort(order))


def release():
    """Give everything that is kept and not in use back to the system."""
    with _blocks.lock:
        _blocks.settle()
        _blocks.shrink(0)
        _blocks.most_used = _blocks.used_bytes


def held():
    """(bytes in use, bytes kept for later)."""
    with _blocks.lock:
        _blocks.settle()
        return _blocks.used_bytes, _blocks.idle_bytes


def _after_fork():
    """The child starts with nothing idle and with a lock that nobody holds; blocks in use return to the parent's."""
    global _blocks
    _blocks = _Blocks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
