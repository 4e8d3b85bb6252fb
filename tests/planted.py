"""Kernels with planted bugs, run on a build of the emulator.

    python -m tests.planted asan simt global_read

exits with 0 where nothing is found.
"""

import importlib
import sys

import numpy

from tests.emulation import SCHEDULES


def halves(rng, *shape):
    return rng.standard_normal(shape).astype(numpy.float16)


def problem(kernel, bug):
    """Inputs of a kernel, what is right, and how far float32 sums may be from it."""
    rng = numpy.random.default_rng(7)
    if kernel == "small":
        x = rng.standard_normal(256).astype(numpy.float32)
        return [x], SMALL[bug](x), 1e-6
    if kernel == "simt":
        a, b = (rng.standard_normal((n, 21)).astype(numpy.float32) for n in (45, 37))
    else:
        rows, columns, depth = {"mma": (70, 40, 136), "wgmma": (100, 72, 200)}[kernel]
        a, b = halves(rng, rows, depth), halves(rng, columns, depth)
    return [a, b], a.astype(numpy.float64) @ b.astype(numpy.float64).T, 1e-4


def turned(x):
    return x[:64].reshape(2, 32)[:, ::-1].reshape(-1)


def of_three_neighbours(x):
    warps = x[:64].reshape(2, 32)
    best = numpy.zeros_like(warps)
    best[:, :30] = numpy.maximum(numpy.maximum(warps[:, :30], warps[:, 1:31]), warps[:, 2:])
    return best.reshape(-1)


def pair_sums(x):
    lanes = x[:64].reshape(2, 2, 8, 2)
    return numpy.concatenate([numpy.stack([h[0] + h[0][:, ::-1], h[1]]) for h in lanes]).reshape(-1)


SMALL = {  # what the correct kernels of small.cu write
    "divergent_shuffle": of_three_neighbours,
    "misaligned_vector": lambda x: x.reshape(64, 4)[numpy.arange(64) % 63].sum(axis=1),
    "missing_warp_barrier": turned,
    "blocks_write_same": lambda x: x[:64],
    "blocks_read_write": lambda x: x[:64],
    "unwritten_input": lambda x: (x[:64] > 0).astype(numpy.float32),
    "early_exit": lambda x: 2 * x[:64],
    "write_after_read": lambda x: numpy.roll(x[:64], -1),
    "barrier_at_two_places": lambda x: x[63::-1],
    "wrong_mask": pair_sums,
    "same_value": lambda x: numpy.ones(64),
    "too_much_shared": lambda x: x[:64],
}


def with_zeros_beyond(x, elements):
    """A copy of an array that is followed by zeros, so that reads past its end find the same in every process."""
    memory = numpy.zeros(x.size + elements, x.dtype)
    memory[: x.size] = x.reshape(-1)
    return memory[: x.size].reshape(x.shape)


def find(build, kernel, bug, correct=False):
    """Run a kernel with a planted bug, or without it, under all schedules.

    Returns:
        What is found: the text of an error, "wrong" results, something written "beyond" the output, or results that
        "differ" between schedules; or None.
    """
    extension = importlib.import_module("fastconv._emulated" + ("" if build == "plain" else f"_{build}"))
    inputs, expected, tolerance = problem(kernel, bug)
    beyond = 0 if build == "asan" else 16  # elements; the sanitizer knows where an allocation ends
    inputs = [with_zeros_beyond(x, beyond) for x in inputs]
    first = None
    for schedule in SCHEDULES:
        memory = numpy.full(expected.size + beyond, numpy.nan, numpy.float32)
        output = memory[: expected.size].reshape(expected.shape)
        written = correct or bug != "unwritten_input"
        names = [f"input {i}" for i in range(len(inputs))]
        arrays = [*zip(inputs, names, [written] * len(inputs), strict=True), (output, "output", False)]
        for array, name, initialised in arrays:
            extension.register_buffer(array.ctypes.data, array.nbytes, name, initialised)
        extension.set_schedule(*schedule)
        try:
            extension.run_planted(kernel, bug, correct, [x.ctypes.data for x in inputs], output.ctypes.data)
        except extension.LaunchError as error:
            return str(error)
        finally:
            extension.set_schedule(*SCHEDULES[0])
            for array, *_ in arrays:
                extension.forget_buffer(array.ctypes.data)
        if not (abs(output - expected) <= tolerance).all():
            return "wrong"
        if not numpy.isnan(memory[expected.size :]).all():
            return "beyond"
        if first is not None and first != output.tobytes():
            return "differ"
        first = output.tobytes()
    return None


def main():
    """Run what the command line names: a build, then pairs of kernel and bug; with a "-" before it, without the bug."""
    build, *pairs = sys.argv[1:]
    for kernel, bug in zip(pairs[::2], pairs[1::2], strict=True):
        found = find(build, kernel, bug.removeprefix("-"), correct=bug.startswith("-"))
        if found:
            sys.exit(f"{kernel} {bug}: {found}")


if __name__ == "__main__":
    main()
