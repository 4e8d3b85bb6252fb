"""Which backend serves these arrays: the only place that asks.

A backend is a package of plain functions with the names and signatures below. Arrays have been
checked by Window, may be of any memory order, byte order or read-only, and are never changed.
Results are new arrays of the dtype of the first argument unless said otherwise.

    conv_forward(x, w, b, window, activation=None) -> y   [N,K,*output]; b [K] or None; activation None, "relu",
                                                "gelu" or "silu", applied before y is rounded
    conv_input_grad(dy, w, b, window) -> dx     [N,C,*size]; b [C] or None is added: transposed convolution
    conv_weight_grad(x, dy, window) -> dw       [K,C/groups,*kernel]
    conv_bias_grad(dy) -> db                    [K], the sum over everything but the channels
    max_pool_forward(x, window, in_window=False) -> y, indices   int64, position in the flattened *size; or in_window,
                                                uint8, position in the flattened *kernel: of 256 elements at most, and
                                                at least one of every window in the input
    max_pool_input_grad(dy, indices, window) -> dx   indices of max_pool_forward of either kind, positions of its window
    avg_pool_forward(x, window, count_include_pad, divisor_override) -> y
    avg_pool_input_grad(dy, window, count_include_pad, divisor_override) -> dx
    adaptive_avg_pool_forward(x, output_size) -> y
    adaptive_avg_pool_input_grad(dy, size) -> dx
    adaptive_max_pool_forward(x, output_size) -> y, indices
    adaptive_max_pool_input_grad(dy, indices, size) -> dx   indices of adaptive_max_pool_forward
    pool_gather(x, indices) -> y                y[n,c,o] = x[n,c,indices[n,c,o]]
    pool_scatter(dy, indices, size) -> dx       the transpose of pool_gather: equal indices add up
    pool_place(x, indices, size) -> y           zeros, but y[n,c,indices[n,c,o]] = x[n,c,o]: the last of equal indices
    batch_norm_statistics(x) -> mean, variance  [C] each, biased, accumulator dtype of x
    batch_norm_forward(x, mean, variance, w, b, eps, residual=None, relu=False) -> y
                                                w, b [C] or None; residual of x's shape is added, then ReLU
    batch_norm_grad(dy, x, mean, variance, w, eps, y=None) -> dx, dw, db   through the statistics of x; with the
                                                y of a ReLU also dresidual: dy, but 0 where y <= 0, not where it is NaN
    batch_norm_weight_grad(dy, x, mean, variance, eps) -> dw, db   by statistics that are constants
    group_norm_forward(x, groups, w, b, eps) -> y, mean, variance   [N,groups] each, biased, accumulator dtype of x:
                                                instance norm with groups = C, layer norm of [rows,length] with 1
    group_norm_grad(dy, x, mean, variance, groups, w, eps, sums=True) -> dx, dw, db   through the statistics of x;
                                                without `sums` dw and db may be None: nobody wants them
    rms_norm_forward(x, w, eps) -> y, square    x [rows, length] / sqrt(mean of squares + eps) * w [length] or None, and
                                                these means [rows], accumulator dtype of x
    rms_norm_input_grad(dy, x, square, w, eps) -> dx   through the mean of squares
    rms_norm_weight_grad(dy, x, square, eps) -> dw
    matmul(a, b) -> c                           [..., M, L] @ [..., L, K], leading axes equal
    resize_forward(x, output_size, mode, align_corners, scales) -> y   modes and neighbours: fastconv.resize
    resize_input_grad(dy, size, mode, align_corners, scales) -> dx     its transpose
    grid_sample_forward(x, grid, mode, padding_mode, align_corners, orders) -> y   grid [N,*output,axes], x first:
                                                fastconv.grid; orders, an int a coordinate: how often the weights are
                                                differentiated by it
    grid_sample_input_grad(dy, grid, size, mode, padding_mode, align_corners, orders) -> dx   its transpose
    grid_sample_grid_grad(dy, x, grid, mode, padding_mode, align_corners, orders) -> dgrid   its derivatives by each
                                                coordinate, times dy and summed over the channels
    cross_entropy_forward(x, target, weight, ignore_index, label_smoothing) -> loss, logsumexp
        [N, *size] each, accumulator dtype of x [N, C, *size]; target int64 [N, *size], weight [C] or None. A class out
        of range is refused, but on a GPU, where nobody waits for the answer, its loss and gradient are NaN.
    cross_entropy_grad(dloss, x, logsumexp, target, weight, ignore_index, label_smoothing) -> dx   dtype of x
    nll_forward(x, target, weight, ignore_index) -> loss, factor
        [N, *size] each, accumulator dtype of x [N, C, *size]: -w[t] * x[t] and w[t] of the class t, 0 where it is
        ignore_index; the rest as for cross_entropy_forward
    unary_forward(x, function, parameters) -> y  any shape; functions and their parameters: fastconv.elementwise
    unary_input_grad(dy, v, function, parameters) -> dx     v is x or y, whichever the function reads
    binary_forward(a, b, function, parameters) -> y   one shape, or one of the two without axes; functions and their
                                                parameters: the PAIRS of fastconv.elementwise
    binary_sum(a, b, function, parameters) -> total   [], accumulator dtype of a: the sum of y of a and b of one shape
    binary_grad(dy, a, b, function, parameters, operand) -> da or db   operand "a" or "b"; dtype of a; dy of the shape
                                                of a and b; or [], for the gradient of the sum, in any floating dtype
    softmax_forward(x, axis, log) -> y          along one axis of any shape; log: its logarithm
    softmax_input_grad(dy, y, axis, log) -> dx
    glu_forward(x, axis) -> y                   a * sigmoid(b), x being a and b along an axis
    glu_input_grad(dy, x, axis) -> dx
    prelu_forward(x, w) -> y                    w has one element, or is [C] for x [N, C, ...]
    prelu_grad(dy, x, w) -> dx, dw
    response_norm_forward(x, size, alpha, beta, k) -> y   local response norm; x [N, C, *size]
    response_norm_input_grad(dy, x, size, alpha, beta, k) -> dx
    normalize_forward(x, axis, eps) -> y        x over its length along an axis, or over eps if that is more
    normalize_grad(dy, x, axis, eps) -> dx
    nms(boxes, order, groups, iou_threshold) -> kept    the entries of order, positions of boxes [N,4] or [N,6] from the
        best to the worst, whose boxes overlap none that is kept; groups int64 [N] or None: only equal ones are compared
    roi_align_forward(x, rois, output_size, spatial_scale, sampling_ratio, aligned) -> y [K,C,*output_size]
        rois [K, 1 + 2 * axes] of the dtype of x or of its accumulator, geometry: fastconv.boxes. An image that does
        not exist is refused, but on a GPU, where nobody waits for the answer, its regions are NaN and give no gradient.
    roi_align_input_grad(dy, rois, batch, size, spatial_scale, sampling_ratio, aligned) -> dx [batch,C,*size]
    roi_pool_forward(x, rois, output_size, spatial_scale) -> y, indices   int64, position in *size, -1 for none
    roi_pool_input_grad(dy, rois, indices, batch, size, spatial_scale) -> dx   indices of roi_pool_forward
"""

import contextlib
import contextvars
import gc
import importlib

from fastconv.arrays import device_of, is_cupy, namespace_of
from fastconv.errors import DeviceError, ShapeError

NAMES = ("reference", "cpu", "cuda", "emulated")

OPERATORS = (
    "conv_forward", "conv_input_grad", "conv_weight_grad", "conv_bias_grad",
    "max_pool_forward", "max_pool_input_grad", "avg_pool_forward", "avg_pool_input_grad",
    "adaptive_avg_pool_forward", "adaptive_avg_pool_input_grad",
    "adaptive_max_pool_forward", "adaptive_max_pool_input_grad",
    "pool_gather", "pool_scatter", "pool_place",
    "batch_norm_statistics", "batch_norm_forward", "batch_norm_grad", "batch_norm_weight_grad",
    "group_norm_forward", "group_norm_grad", "rms_norm_forward", "rms_norm_input_grad", "rms_norm_weight_grad",
    "matmul",
    "resize_forward", "resize_input_grad",
    "grid_sample_forward", "grid_sample_input_grad", "grid_sample_grid_grad",
    "cross_entropy_forward", "cross_entropy_grad", "nll_forward",
    "unary_forward", "unary_input_grad", "binary_forward", "binary_sum", "binary_grad",
    "softmax_forward", "softmax_input_grad", "glu_forward", "glu_input_grad", "prelu_forward", "prelu_grad",
    "normalize_forward", "normalize_grad", "response_norm_forward", "response_norm_input_grad",
    "nms", "roi_align_forward", "roi_align_input_grad", "roi_pool_forward", "roi_pool_input_grad",
)  # fmt: skip

_chosen = contextvars.ContextVar("fastconv_backend", default=None)


class Backend:
    """A backend by name, imported when its first operator is called.

    Args:
        name: One of NAMES.
    """

    def __init__(self, name):
        self.name = name

    def __getattr__(self, operator):
        if operator not in OPERATORS:
            raise AttributeError(operator)
        try:
            module = _imported(f"fastconv.{self.name}")
        except ModuleNotFoundError as missing:
            if missing.name != f"fastconv.{self.name}":
                raise
            raise NotImplementedError(f"this version of fastconv has no {self.name} backend") from None
        function = getattr(module, operator, None)
        if function is None:
            raise NotImplementedError(f"the {self.name} backend has no operator {operator}")
        setattr(self, operator, function)
        return function

    def __repr__(self):
        return f"Backend({self.name!r})"


def _imported(name):
    """The module of a name; garbage is not looked for meanwhile, which would cost an import of Numba a tenth more."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        if collecting:
            gc.enable()


_backends = {name: Backend(name) for name in NAMES}


def of(*arrays):
    """The backend that serves these arrays; None among them is passed over.

    Returns:
        The Backend chosen by use_backend, otherwise cpu for NumPy arrays and cuda for CuPy arrays.

    Raises:
        DeviceError: The arrays live on different devices, or not on the device of the chosen
            backend: nothing is copied between devices in silence.
    """
    present = [a for a in arrays if a is not None]
    if _chosen.get() is None and present and not any(map(is_cupy, present)):  # nearly every call
        return _backends["cpu"]
    devices = sorted({device_of(a) for a in present})
    if len(devices) > 1:
        raise DeviceError("fastconv", "arrays", " and ".join(devices), "one device", "move them with cupy.asarray")
    chosen = _chosen.get()
    on_gpu = bool(present) and is_cupy(present[0])
    if chosen is None:
        return _backends["cuda" if on_gpu else "cpu"]
    if on_gpu != (chosen == "cuda"):
        raise DeviceError(
            "fastconv", "arrays", devices[0] if devices else "no array", f"arrays that the {chosen} backend can read"
        )
    return _backends[chosen]


def computes_in_numba():
    """Whether NumPy arrays are served by the cpu backend here."""
    return _chosen.get() in (None, "cpu")


def namespace(*arrays):
    """numpy or cupy, whichever holds these arrays: the module of the elementwise functions.

    Raises:
        DeviceError: The arrays live on different devices.
    """
    of(*arrays)
    return namespace_of(next(a for a in arrays if a is not None))


@contextlib.contextmanager
def use_backend(name):
    """Within the block, compute on the named backend whatever the arrays would choose.

    Args:
        name: "reference", "cpu", "cuda" or "emulated".

    Returns:
        A context manager, local to the thread or task that enters it.

    Raises:
        ShapeError: No backend has this name.
    """
    if name not in NAMES:
        raise ShapeError("use_backend", "name", repr(name), " or ".join(NAMES))
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)


def signatures(name):
    """The operators that a backend has, by name, with their signatures; imports the backend.

    Args:
        name: One of NAMES.

    Returns:
        A dict from operator to inspect.Signature.

    Raises:
        ImportError: What the backend needs is not installed.
    """
    import inspect  # slow to import, and nothing but this needs it

    module = importlib.import_module(f"fastconv.{name}")
    return {op: inspect.signature(getattr(module, op)) for op in OPERATORS if hasattr(module, op)}
