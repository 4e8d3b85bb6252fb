"""Batch, group and RMS normalisation on the GPU: which reductions run, split how, and by which kernels.

An operator is composed of passes: a reduction to the sums that a statistic needs, in one or two stages, and a pass
that maps elements. A statistic that one warp or one block can keep in registers is done in one pass, by "rows".
"""

import math
from typing import NamedTuple

import numpy

from fastconv.arrays import accumulator
from fastconv.cuda.choice import Problem, anything, choose, register
from fastconv.cuda.layout import dense, is_channels_last
from fastconv.cuda.runtime import launch
from fastconv.cuda.workspace import get_max_workspace

# A reduction is split until so many blocks share it, if each keeps a good number of elements.
_BLOCKS, _BLOCK_ELEMENTS = 1024, 8192
# Threads of a block that reads columns, and most vectors of channels that it spans: NormReduceTile in csrc.
_THREADS, _COLUMN_UNITS = 256, 64
# With fewer rows than this, channels last, the parts of columns would be no smaller than what they are parts of.
_FEWEST_ROWS = 32
# So many statistics occupy the GPU with a block each.
_MANY_STATISTICS = 64
# Bytes of each array that a block keeps in registers: NormRowsTile in csrc.
_HELD_BYTES = 16 * 4 * _THREADS


class Plan(NamedTuple):
    """What is normalised, all of it from the shape, the format and the dtype.

    Attributes:
        images, channels, positions, groups, shared: NormShape in csrc.
        last: Whether x is read channels last.
        itemsize: Bytes of an element.
        accumulator_size: Bytes of a sum.
    """

    images: int
    channels: int
    positions: int
    groups: int
    shared: bool
    last: bool
    itemsize: int
    accumulator_size: int

    @property
    def elements(self):
        return self.images * self.channels * self.positions

    @property
    def statistics(self):
        return self.groups if self.shared else self.images * self.groups

    @property
    def values(self):
        """Elements of a statistic."""
        return self.elements // self.statistics

    def shape(self, gpu):
        """The plan as the extension's own."""
        return gpu.extension.NormShape(*self[:5])

    def splits(self, sums, numbers, by_columns, fixed=0):
        """Blocks that share each of so many sums, whose partial results of `numbers` numbers fit the workspace.

        Args:
            sums: How many sums there are.
            numbers: Numbers of a partial result.
            by_columns: Whether a block has several channels, which are innermost, or one sum.
            fixed: Bytes of workspace that the call takes besides.
        """
        elements = self.elements // sums
        side_by_side = sums
        if by_columns:
            units = max(self.channels * self.itemsize // 16, 1)
            chunks = -(-units // _COLUMN_UNITS)
            side_by_side = sums // self.channels * chunks
            elements *= self.channels // chunks
        wanted = min(-(-_BLOCKS // side_by_side), elements // _BLOCK_ELEMENTS)
        allowed = (get_max_workspace() - fixed) // (sums * numbers * self.accumulator_size)
        splits = max(1, min(wanted, allowed))
        return splits if splits * sums * numbers * self.accumulator_size + fixed <= get_max_workspace() else 1


def batch_norm_statistics(x):
    """mean and biased variance [C]; see fastconv.backend."""
    plan = _plan(x)
    with launch("batch_norm_statistics", x) as gpu:
        mean, variance = (_statistic(gpu, (plan.groups,), x.dtype, plan) for _ in range(2))
        if plan.elements:
            _statistics(gpu, dense(gpu, x, _last(plan, x)), mean, variance, plan)
    return mean, variance


def batch_norm_forward(x, mean, variance, w, b, eps, residual=None, relu=False):
    """y [N, C, *size]; see fastconv.backend."""
    plan = _plan(x)
    with launch("batch_norm_forward", x, mean) as gpu:
        x, residual = (dense(gpu, a, _last(plan, a)) for a in (x, residual))
        mean, variance, w, b = (dense(gpu, a) for a in (mean, variance, w, b))
        y = gpu.empty(x.shape, x.dtype, _last(plan, x))
        _forward(gpu, x, residual, y, mean, variance, w, b, plan, eps, relu)
    return y


def batch_norm_grad(dy, x, mean, variance, w, eps, y=None):
    """dx [N, C, *size], dw and db [C], with y dresidual too; see fastconv.backend."""
    plan = _plan(dy)
    with launch("batch_norm_grad", dy) as gpu:
        last = _last(plan, dy)
        dy, x, y = (dense(gpu, a, last) for a in (dy, x, y))
        mean, variance, w = (dense(gpu, a) for a in (mean, variance, w))
        dx = gpu.empty(dy.shape, dy.dtype, last)
        dresidual = None if y is None else gpu.empty(dy.shape, dy.dtype, last)
        dw, db = _parameter_gradients(gpu, dy, plan)
        if choose("batch_norm_grad", _problem(gpu, plan, dy)) == "rows":
            _input_grad_rows(gpu, dy, x, y, dx, dresidual, mean, variance, w, dw, db, plan, eps)
        elif plan.elements:
            sums = (db, dw)
            if accumulator(dy.dtype) != dy.dtype:
                sums = tuple(gpu.workspace((plan.channels,), accumulator(dy.dtype)) for _ in range(2))
            taken = sum(a.nbytes for a in sums) if sums[0] is not db else 0
            targets = (dw, db, *((None, None) if sums[0] is db else sums))
            _weight_grad(gpu, dy, x, y, mean, variance, targets, plan, False, eps, taken)
            _input_grad(gpu, dy, x, y, dx, dresidual, mean, variance, w, *sums, plan, eps)
    return (dx, dw, db) if y is None else (dx, dw, db, dresidual)


def batch_norm_weight_grad(dy, x, mean, variance, eps):
    """dw and db [C]; see fastconv.backend."""
    plan = _plan(dy)
    with launch("batch_norm_weight_grad", dy) as gpu:
        last = _last(plan, dy)
        dw, db = _parameter_gradients(gpu, dy, plan)
        if plan.elements:
            dy, x, mean, variance = dense(gpu, dy, last), dense(gpu, x, last), dense(gpu, mean), dense(gpu, variance)
            _weight_grad(gpu, dy, x, None, mean, variance, (dw, db, None, None), plan, False, eps)
    return dw, db


def group_norm_forward(x, groups, w, b, eps):
    """y [N, C, *size], mean and biased variance [N, groups]; see fastconv.backend."""
    plan = _plan(x, groups)
    with launch("group_norm_forward", x) as gpu:
        last = _last(plan, x)
        x, w, b = dense(gpu, x, last), dense(gpu, w), dense(gpu, b)
        y = gpu.empty(x.shape, x.dtype, last)
        mean, variance = (_statistic(gpu, (plan.images, groups), x.dtype, plan) for _ in range(2))
        if not plan.elements:
            pass
        elif choose("group_norm_forward", _problem(gpu, plan, x)) == "rows":
            gpu.extension.norm_forward_rows(
                gpu.dtype(x), gpu.format(plan.last), gpu.read(x), gpu.write(y), gpu.write(mean), gpu.write(variance),
                gpu.read(w), gpu.read(b), plan.shape(gpu), eps, gpu.stream,
            )  # fmt: skip
        else:
            _statistics(gpu, x, mean, variance, plan)
            _forward(gpu, x, None, y, mean, variance, w, b, plan, eps, False)
    return y, mean, variance


def group_norm_grad(dy, x, mean, variance, groups, w, eps, sums=True):
    """dx [N, C, *size], dw and db [C]; see fastconv.backend."""
    plan = _plan(dy, groups)
    with launch("group_norm_grad", dy) as gpu:
        last = _last(plan, dy)
        dy, x = dense(gpu, dy, last), dense(gpu, x, last)
        mean, variance, w = (dense(gpu, a) for a in (mean, variance, w))
        dx = gpu.empty(dy.shape, dy.dtype, last)
        dw, db = _parameter_gradients(gpu, dy, plan)
        if not plan.elements:
            pass
        elif choose("group_norm_grad", _problem(gpu, plan, dy)) == "rows":
            _input_grad_rows(gpu, dy, x, None, dx, None, mean, variance, w, None, None, plan, eps)
            if not sums:
                return dx, None, None
            _weight_grad(gpu, dy, x, None, mean, variance, (dw, db, None, None), plan, False, eps)
        else:
            parts = [gpu.workspace((plan.images, n), accumulator(dy.dtype)) for n in (plan.channels, groups) * 2]
            channel_dy, group_dy, channel_product, group_product = parts
            targets = (None, None, channel_dy, channel_product)
            _weight_grad(gpu, dy, x, None, mean, variance, targets, plan, True, eps, sum(a.nbytes for a in parts))
            gpu.extension.norm_group_sums(
                gpu.dtype(dy), gpu.read(channel_dy), gpu.read(channel_product), gpu.read(w), gpu.write(group_dy),
                gpu.write(group_product), gpu.write(dw), gpu.write(db), plan.shape(gpu), gpu.stream,
            )  # fmt: skip
            _input_grad(gpu, dy, x, None, dx, None, mean, variance, w, group_dy, group_product, plan, eps)
    return dx, dw, db


def rms_norm_forward(x, w, eps):
    """y [rows, length] and mean of squares [rows]; see fastconv.backend."""
    plan = _plan(x, 1)
    with launch("rms_norm_forward", x) as gpu:
        y, square = gpu.empty(x.shape, x.dtype), _statistic(gpu, x.shape[:1], x.dtype, plan)
        if plan.elements:
            x, w = dense(gpu, x), dense(gpu, w)
            gpu.extension.norm_rms_forward(
                gpu.dtype(x), gpu.read(x), gpu.write(y), gpu.write(square), gpu.read(w), *x.shape, eps, gpu.stream
            )
    return y, square


def rms_norm_input_grad(dy, x, square, w, eps):
    """dx [rows, length]; see fastconv.backend."""
    plan = _plan(dy, 1)
    with launch("rms_norm_input_grad", dy) as gpu:
        dx = gpu.empty(dy.shape, dy.dtype)
        if plan.elements:
            dy, x, square, w = (dense(gpu, a) for a in (dy, x, square, w))
            _input_grad_rows(gpu, dy, x, None, dx, None, None, square, w, None, None, plan, eps)
    return dx


def rms_norm_weight_grad(dy, x, square, eps):
    """dw [length]; see fastconv.backend."""
    plan = _plan(dy, 1)
    with launch("rms_norm_weight_grad", dy) as gpu:
        dw, _ = _parameter_gradients(gpu, dy, plan)
        if plan.elements:
            dy, x, square = (dense(gpu, a) for a in (dy, x, square))
            _weight_grad(gpu, dy, x, None, None, square, (dw, None, None, None), plan, False, eps)
    return dw


def _plan(x, groups=None):
    """The Plan of batch norm, or of group norm where there are groups."""
    positions = math.prod(x.shape[2:])
    last = is_channels_last(x) or positions == 1  # with one position both formats are the same
    shared = groups is None
    groups = x.shape[1] if shared else groups
    sizes = (x.shape[0], x.shape[1], positions, groups, shared)
    return Plan(*sizes, last, x.dtype.itemsize, accumulator(x.dtype).itemsize)


def _last(plan, x):
    """Whether an array that goes with the plan has to have its channels innermost."""
    return plan.last and x is not None and x.ndim > 2


def _problem(gpu, plan, x):
    return Problem(plan, x.dtype.name, plan.last, gpu.architecture, x.shape)


def _parameter_gradients(gpu, dy, plan):
    """dw and db [C], zeros where no kernel will write them."""
    if plan.elements:
        return tuple(gpu.empty((plan.channels,), dy.dtype) for _ in range(2))
    return tuple(gpu.namespace.zeros((plan.channels,), dy.dtype.newbyteorder("=")) for _ in range(2))


def _statistic(gpu, shape, dtype, plan):
    """A mean or variance to be written; NaN where there is nothing that it could be of."""
    if plan.elements:
        return gpu.empty(shape, accumulator(dtype))
    return gpu.namespace.asarray(numpy.full(shape, numpy.nan, accumulator(dtype)))


def _statistics(gpu, x, mean, variance, plan):
    bytes_of_sum = 3 * plan.accumulator_size
    members = plan.channels // plan.groups
    # Parts of columns lie in the workspace unless a single one is the whole statistic.
    sums = plan.channels if plan.shared else plan.images * plan.channels
    worth_it = members == 1 or (plan.positions >= _FEWEST_ROWS and sums * bytes_of_sum <= get_max_workspace())
    by_columns = plan.last and worth_it
    sums = sums if by_columns else plan.statistics
    splits = plan.splits(sums, 3, by_columns)
    parts = splits * members if by_columns else splits
    partial = gpu.workspace((splits, 3, sums), mean.dtype) if parts > 1 else None
    gpu.extension.norm_statistics(
        gpu.dtype(x), gpu.format(plan.last), gpu.read(x), gpu.write(mean), gpu.write(variance), gpu.write(partial),
        plan.shape(gpu), by_columns, splits, gpu.stream,
    )  # fmt: skip


def _forward(gpu, x, residual, y, mean, variance, w, b, plan, eps, relu):
    gpu.extension.norm_forward(
        gpu.dtype(x), gpu.format(plan.last), gpu.read(x), gpu.read(residual), gpu.write(y), gpu.read(mean),
        gpu.read(variance), gpu.read(w), gpu.read(b), plan.shape(gpu), eps, relu, gpu.stream,
    )  # fmt: skip


def _weight_grad(gpu, dy, x, y, mean, variance, targets, plan, of_images, eps, taken=0):
    """Sums of dy and dy * h to targets (dw, db, sum of dy, sum of products), of which some may be None."""
    sums = plan.channels * (plan.images if of_images else 1)
    splits = plan.splits(sums, 2, plan.last, taken)
    partial = gpu.workspace((splits, 2, sums), accumulator(dy.dtype)) if splits > 1 else None
    gpu.extension.norm_weight_grad(
        gpu.dtype(dy), gpu.format(plan.last), gpu.read(dy), gpu.read(x), gpu.read(y), gpu.read(mean),
        gpu.read(variance), *map(gpu.write, targets), gpu.write(partial), plan.shape(gpu), of_images, splits, eps,
        gpu.stream,
    )  # fmt: skip


def _input_grad(gpu, dy, x, y, dx, dresidual, mean, variance, w, sum_dy, sum_product, plan, eps):
    gpu.extension.norm_input_grad(
        gpu.dtype(dy), gpu.format(plan.last), gpu.read(dy), gpu.read(x), gpu.read(y), gpu.write(dx),
        gpu.write(dresidual), gpu.read(mean), gpu.read(variance), gpu.read(w), gpu.read(sum_dy),
        gpu.read(sum_product), plan.shape(gpu), eps, gpu.stream,
    )  # fmt: skip


def _input_grad_rows(gpu, dy, x, y, dx, dresidual, mean, variance, w, dw, db, plan, eps):
    gpu.extension.norm_input_grad_rows(
        gpu.dtype(dy), gpu.format(plan.last), gpu.read(dy), gpu.read(x), gpu.read(y), gpu.write(dx),
        gpu.write(dresidual), gpu.read(mean), gpu.read(variance), gpu.read(w), gpu.write(dw), gpu.write(db),
        plan.shape(gpu), eps, gpu.stream,
    )  # fmt: skip


def _sums_fit(problem):
    """Whether the sums of each channel, which are no result in halves, fit the workspace."""
    plan = problem.geometry
    kept = 0 if plan.itemsize == plan.accumulator_size else 2 * plan.channels * plan.accumulator_size
    return kept <= get_max_workspace()


def _channel_sums_fit(problem):
    plan = problem.geometry
    return 2 * plan.images * (plan.channels + plan.groups) * plan.accumulator_size <= get_max_workspace()


def _is_by_rows(problem):
    plan = problem.geometry
    return _is_held(problem) or (plan.positions == 1 and plan.statistics >= _MANY_STATISTICS)


def _is_held(problem):
    """Whether a statistic fits the registers of a block, and lies in memory in stretches worth reading."""
    plan = problem.geometry
    stretch = plan.channels // plan.groups * (1 if plan.last else plan.positions)
    return plan.values * plan.itemsize <= _HELD_BYTES and stretch * plan.itemsize >= 32


register("batch_norm_grad", ("sums", _sums_fit), ("rows", anything))
register("group_norm_forward", ("rows", _is_by_rows, anything), ("sums", anything))
register(
    "group_norm_grad",
    ("rows", lambda problem: problem.geometry.positions == 1 or _is_held(problem)),
    ("sums", _channel_sums_fit),
    ("rows", anything),
)
