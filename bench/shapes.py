"""The problems that are timed: shapes.csv, three built-in tables, and the rule that cuts them to a budget.

A row of shapes.csv is a layer of a network as its source publishes it; most are sized for a GPU. The
cut changes the batch and the spatial sizes only: channels, filters, kernel, stride, padding, dilation
and groups, on which the choice of an algorithm depends, stay as they are.
"""

import csv
import functools
import math
import pathlib
from typing import NamedTuple

import numpy

from fastconv.errors import ShapeError
from fastconv.window import Window

DIRECTIONS = ("forward", "input_grad", "weight_grad")

ALIASES = {
    "resnet50": "resnet50-v1",
    "unet3d": "mlperf-unet3d",
    "nnunet": "nnunet-patches",
    "unet2d": "unet2d-full",
    "deepbench": "deepbench-train",
    "convnext": "convnext-dw7",
    "x3d": "onednn-x3d-dw",
    "tileops": "tileops-h200",
    "kernelbench": "kernelbench-L1",
    "llamacpp": "llamacpp-conv3d",
}

DEFAULT_BATCH = 8
_BUILT_IN = ("pool", "tiny", "vgg16")  # what is no part of shapes.csv
_SMALLEST_SIZE = 4  # positions an axis is never cut below: less is another problem


class Problem(NamedTuple):
    """One layer, without a direction, a dtype or a memory format.

    Attributes:
        suite: Name of the table it comes from.
        name: Name of the row, unique in its suite.
        kind: "conv", "conv_transpose", "max_pool" or "avg_pool".
        batch: N.
        channels: C, channels of the input.
        size: Input positions along each of one to three axes, and so on for all tuples that follow.
        filters: K, channels of the output.
        kernel, stride, padding, dilation: As in fastconv.functional.
        groups: Independent convolutions that C and K are split into.
    """

    suite: str
    name: str
    kind: str
    batch: int
    channels: int
    size: tuple
    filters: int
    kernel: tuple
    stride: tuple
    padding: tuple
    dilation: tuple
    groups: int

    @property
    def rank(self):
        """Number of spatial axes."""
        return len(self.size)

    @property
    def is_pool(self):
        """Whether there is no weight."""
        return self.kind.endswith("pool")

    @property
    def directions(self):
        """What can be timed: pooling has no weight gradient."""
        return DIRECTIONS[:2] if self.is_pool else DIRECTIONS

    @property
    def x_shape(self):
        """Shape of the input, [N, C, *size]."""
        return (self.batch, self.channels, *self.size)

    @property
    def w_shape(self):
        """Shape of the weight, or None for pooling."""
        if self.is_pool:
            return None
        outer, inner = self.filters, self.channels
        if self.kind == "conv_transpose":
            outer, inner = inner, outer
        return (outer, inner // self.groups, *self.kernel)

    @property
    def y_shape(self):
        """Shape of the output, [N, K, *output]."""
        window = self.window()
        return window.input_shape if self.kind == "conv_transpose" else window.output_shape

    def window(self, dtype="float32"):
        """The Window of this problem, checked; for a transposed convolution that of what it transposes."""
        # Zero-stride views: Window wants arrays, but reads only their shape and dtype.
        x = numpy.broadcast_to(numpy.zeros((), dtype), self.x_shape)
        if self.is_pool:
            name = f"{self.kind}{self.rank}d"
            return Window.pool(name, x, self.kernel, self.stride, self.padding, self.dilation, False, self.rank)
        w = numpy.broadcast_to(numpy.zeros((), dtype), self.w_shape)
        if self.kind == "conv_transpose":
            return Window.conv_transpose(
                x, w, None, self.stride, self.padding, 0, self.groups, self.dilation, self.rank
            )
        return Window.conv(x, w, None, self.stride, self.padding, self.dilation, self.groups, self.rank)

    @property
    def flops(self):
        """Multiplications and additions of the direct algorithm, the same for all three directions; 0 for pooling."""
        if self.is_pool:
            return 0
        window = self.window()
        return 2 * math.prod(window.output_shape) * math.prod(window.weight_shape[1:])

    def terms(self, direction):
        """Most products, or elements, that one element of the result sums."""
        taps = math.prod(self.kernel)
        if self.is_pool:
            return taps
        if direction == "weight_grad":
            return self.batch * math.prod(self.window().output)
        into = self.channels if direction == "forward" else self.filters
        return into // self.groups * taps

    def bytes(self, itemsize):
        """Bytes that must move at least once: input, weight and output."""
        shapes = [self.x_shape, self.y_shape] + ([] if self.is_pool else [self.w_shape])
        return itemsize * sum(math.prod(shape) for shape in shapes)

    def describe(self):
        """The problem in one short line, such as "8x64x56x56 -> 64, 3x3 p1"."""
        text = f"{_by(self.x_shape)} -> {self.filters}, {_by(self.kernel)}"
        for letter, values, default in (("s", self.stride, 1), ("p", self.padding, 0), ("d", self.dilation, 1)):
            if any(v != default for v in values):
                text += f" {letter}{values[0] if len(set(values)) == 1 else _by(values)}"
        return text + (f" g{self.groups}" if self.groups > 1 else "")


class Budget(NamedTuple):
    """What one call of a row may cost.

    Attributes:
        batch: Largest batch, or None for DEFAULT_BATCH.
        gflop: Largest work of the direct algorithm, in 10^9 operations.
        mb: Largest sum of input, weight and output, in 10^6 bytes.
    """

    batch: int | None
    gflop: float
    mb: float

    def holds(self, problem, itemsize):
        """Whether the problem costs no more than this."""
        return problem.flops <= self.gflop * 1e9 and problem.bytes(itemsize) <= self.mb * 1e6

    def rule(self):
        """The rule of the cut, in one sentence."""
        return (
            f"batch at most {self.batch or DEFAULT_BATCH}, then batch and after it the longest spatial axis halved "
            f"(never below {_SMALLEST_SIZE} positions) until a call is within {self.gflop:g} GFLOP and {self.mb:g} MB"
        )


def cut(problem, budget, itemsize):
    """The problem with batch and spatial sizes reduced to the budget.

    Args:
        problem: A Problem.
        budget: A Budget.
        itemsize: Bytes of an element.

    Returns:
        A Problem, or None where even the smallest batch and sizes are over the budget.
    """
    problem = problem._replace(batch=min(problem.batch, budget.batch or DEFAULT_BATCH))
    while not budget.holds(problem, itemsize):
        if problem.batch > 1:
            problem = problem._replace(batch=problem.batch // 2)
            continue
        longest = max(range(problem.rank), key=lambda i: problem.size[i])
        half = problem.size[longest] // 2
        if half < _SMALLEST_SIZE:
            return None
        size = tuple(half if i == longest else s for i, s in enumerate(problem.size))
        problem = problem._replace(size=size)
    return problem


class Selection(NamedTuple):
    """The rows of a run, and what became of the others.

    Attributes:
        problems: Problems to be timed.
        reduced: How many of them were cut.
        repeated: Names of rows that the cut made equal to an earlier one.
        too_large: Names of rows that no cut brings within the budget.
    """

    problems: list
    reduced: int
    repeated: list
    too_large: list


def select(problems, budget, itemsize):
    """Cut every problem to the budget; drop what does not fit and what became equal to an earlier row."""
    kept, seen, repeated, too_large, reduced = [], set(), [], [], 0
    for problem in problems:
        small = cut(problem, budget, itemsize)
        if small is None:
            too_large.append(problem.name)
            continue
        key = small._replace(suite="", name="")
        if key in seen:
            repeated.append(problem.name)
            continue
        seen.add(key)
        reduced += small != problem
        kept.append(small)
    return Selection(kept, reduced, repeated, too_large)


def suites():
    """Problems by suite name: those of shapes.csv, and the built-in `pool`, `tiny` and `vgg16`."""
    tables = {}
    for row in table():
        tables.setdefault(row["suite"], []).append(from_row(row))
    tables["pool"] = list(_POOL)
    tables["tiny"] = list(_TINY)
    tables["vgg16"] = list(_VGG16)
    return tables


def suite(name):
    """The problems of one suite.

    Args:
        name: A suite of shapes.csv, an alias of one, "pool", "tiny", "vgg16", or "all" for the whole of shapes.csv.

    Raises:
        ShapeError: There is no such suite.
    """
    tables = suites()
    if name == "all":
        return [p for key, problems in tables.items() if key not in _BUILT_IN for p in problems]
    key = ALIASES.get(name, name)
    if key not in tables:
        raise ShapeError("bench", "suite", repr(name), " or ".join([*ALIASES, *sorted(tables), "all"]))
    return tables[key]


@functools.cache
def table():
    """The rows of shapes.csv as dicts of strings."""
    with open(pathlib.Path(__file__).with_name("shapes.csv"), newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


def from_row(row):
    """The Problem of one row of shapes.csv."""
    return Problem(
        suite=row["suite"],
        name=row["name"],
        kind={"F": "conv", "T": "conv_transpose"}[row["dir"]],
        batch=int(row["N"]),
        channels=int(row["C"]),
        size=sizes(row["spatial"]),
        filters=int(row["K"]),
        kernel=sizes(row["kernel"]),
        stride=sizes(row["stride"]),
        padding=sizes(row["pad"]),
        dilation=sizes(row["dilation"]),
        groups=int(row["groups"]),
    )


def sizes(text):
    """Ints of a string such as "3x3x3"."""
    return tuple(int(part) for part in text.split("x"))


def _by(values):
    return "x".join(str(v) for v in values)


def _pool(name, kind, shape, kernel, stride, padding):
    ones = (1,) * len(kernel)
    return Problem("pool", name, kind, shape[0], shape[1], shape[2:], shape[1], kernel, stride, padding, ones, 1)


def _tiny(name, kind, shape, filters, *geometry):
    return Problem("tiny", name, kind, shape[0], shape[1], shape[2:], filters, *geometry)


_POOL = (
    _pool("max2d stem 3/2", "max_pool", (8, 64, 112, 112), (3, 3), (2, 2), (1, 1)),
    _pool("max2d halve 2/2", "max_pool", (8, 64, 128, 128), (2, 2), (2, 2), (0, 0)),
    _pool("max2d same 3/1", "max_pool", (8, 192, 28, 28), (3, 3), (1, 1), (1, 1)),
    _pool("avg2d halve 2/2", "avg_pool", (8, 256, 56, 56), (2, 2), (2, 2), (0, 0)),
    _pool("avg2d same 3/1", "avg_pool", (8, 192, 35, 35), (3, 3), (1, 1), (1, 1)),
    _pool("max3d halve 2/2", "max_pool", (2, 32, 64, 64, 64), (2, 2, 2), (2, 2, 2), (0, 0, 0)),
    _pool("max3d slices 1x2x2", "max_pool", (2, 32, 40, 80, 80), (1, 2, 2), (1, 2, 2), (0, 0, 0)),
    _pool("max3d 3/2", "max_pool", (2, 32, 48, 48, 48), (3, 3, 3), (2, 2, 2), (1, 1, 1)),
    _pool("avg3d halve 2/2", "avg_pool", (2, 32, 64, 64, 64), (2, 2, 2), (2, 2, 2), (0, 0, 0)),
    _pool("avg3d 3/2", "avg_pool", (2, 32, 48, 48, 48), (3, 3, 3), (2, 2, 2), (1, 1, 1)),
)

# The nine different convolutions of VGG-16: name, channels, size, filters. Simonyan & Zisserman, arXiv:1409.1556.
_VGG16 = tuple(
    Problem("vgg16", name, "conv", 64, channels, (size, size), filters, (3, 3), (1, 1), (1, 1), (1, 1), 1)
    for name, channels, size, filters in (
        ("conv1_1", 3, 224, 64), ("conv1_2", 64, 224, 64), ("conv2_1", 64, 112, 128), ("conv2_2", 128, 112, 128),
        ("conv3_1", 128, 56, 256), ("conv3_2", 256, 56, 256), ("conv4_1", 256, 28, 512), ("conv4_2", 512, 28, 512),
        ("conv5_1", 512, 14, 512),
    )
)  # fmt: skip

# Small enough for the reference backend: it tells whether the harness works, not how fast anything is.
_TINY = (
    _tiny("sequence", "conv", (2, 3, 17), 4, (3,), (1,), (1,), (1,), 1),
    _tiny("image", "conv", (2, 3, 9, 8), 4, (3, 3), (2, 2), (1, 1), (1, 1), 1),
    _tiny("volume", "conv", (1, 2, 5, 6, 7), 3, (3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1), 1),
    _tiny("depthwise", "conv", (2, 4, 9, 9), 4, (3, 3), (1, 1), (2, 2), (2, 2), 4),
    _tiny("transposed", "conv_transpose", (2, 4, 5, 5), 6, (2, 2), (2, 2), (0, 0), (1, 1), 1),
    _tiny("max pool", "max_pool", (2, 3, 9, 8), 3, (3, 3), (2, 2), (1, 1), (1, 1), 1),
    _tiny("avg pool", "avg_pool", (2, 3, 9, 8), 3, (3, 3), (2, 2), (1, 1), (1, 1), 1),
)
