"""The tape: Tensor, backward, grad and no_grad. It knows no operator.

An operator computes a plain array and hands it to `record` with its gradient rule. A rule is a
function of (dy, y) that gives one thunk for each input; only the thunks of wanted gradients run.
Rules call public, differentiable functions, so a gradient has a gradient. Dunder methods and
named methods of Tensor are attached by fastconv.functional.methods.

Source of the design: reverse accumulation, Griewank & Walther, Evaluating Derivatives, 2nd ed., ch. 3.
"""

import contextlib
import threading
from typing import NamedTuple

import numpy

from fastconv.arrays import describe, device_of, fingerprint, is_array, is_float, namespace_of, on_device_of
from fastconv.errors import DTypeError, GraphError, ShapeError

_state = threading.local()


class Tensor:
    """An array that remembers how it was computed.

    Args:
        data: NumPy or CuPy array. It is kept, not copied.
        requires_grad: Whether backward() shall leave a gradient in `grad`.

    Attributes:
        data: The array. Results of operators must not be changed in place while a backward pass
            still needs them; a change is detected and refused there.
        grad: A Tensor after backward(), or None. Backward passes add to it.
        requires_grad: Whether gradients flow to this tensor.

    Raises:
        DTypeError: data is no array, or requires_grad is asked of an array that is not floating.
    """

    __slots__ = ("__weakref__", "_node", "_requires_grad", "data", "grad")

    # NumPy must leave `array + tensor` to Tensor.__radd__, not walk over the tensor's elements.
    __array_ufunc__ = None

    def __init__(self, data, requires_grad=False):
        if not is_array(data):
            raise DTypeError("Tensor", "data", describe(data), "a NumPy or CuPy array", "use fastconv.tensor")
        self.data = data
        self.grad = None
        self._node = None
        self._requires_grad = False
        self.requires_grad = requires_grad

    @property
    def requires_grad(self):
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value):
        if value and not is_float(self.data):
            raise DTypeError("Tensor", "requires_grad", f"True for {self.dtype.name}", "a floating dtype")
        if not value and self._node is not None:
            raise GraphError("Tensor", "requires_grad", "False for a computed tensor", "a leaf", "use detach()")
        self._requires_grad = bool(value)

    @property
    def shape(self):
        return self.data.shape

    @property
    def ndim(self):
        return self.data.ndim

    @property
    def dtype(self):
        return self.data.dtype

    @property
    def device(self):
        """Name of the device: "cpu", or "cuda:0" and so on."""
        return device_of(self.data)

    @property
    def is_leaf(self):
        """Whether the tensor was made by the caller rather than by a recorded operator."""
        return self._node is None

    def detach(self):
        """A tensor on the same array that no gradient flows through."""
        return Tensor(self.data)

    def numpy(self):
        """The values as a NumPy array: the array itself on the CPU, a copy from a GPU.

        Raises:
            GraphError: The tensor requires a gradient; detach() it first.
        """
        if self._requires_grad:
            raise GraphError("numpy", "self", "a tensor that requires a gradient", "a detached one", "use detach()")
        return self.data if isinstance(self.data, numpy.ndarray) else self.data.get()

    def item(self):
        """The only element as a Python number.

        Raises:
            ShapeError: There is not exactly one element.
        """
        if self.data.size != 1:
            raise ShapeError("item", "self", list(self.shape), "one element")
        return self.data.item()

    def tolist(self):
        """The values as nested Python lists."""
        return self.data.tolist()

    def backward(self, gradient=None, retain_graph=None, create_graph=False):
        """Add the gradient of this tensor to `grad` of every leaf that it was computed from.

        Args:
            gradient: What to multiply with: a Tensor or array of this shape; may be left out for one element.
            retain_graph: Keep what the rules hold, for another pass. Default: create_graph.
            create_graph: Record the pass itself, so that gradients can be differentiated.

        Raises:
            ShapeError: gradient is missing for more than one element, or has another shape.
            GraphError: Nothing was recorded, a part of the graph was freed by an earlier pass, or an
                array that a rule needs was changed in place.
        """
        taken = {id(_memory(raw(gradient)))}
        for leaf, dleaf in _propagate((self,), (gradient,), "backward", retain_graph, create_graph):
            with _recording(create_graph):
                leaf.grad = _unshared(dleaf, taken) if leaf.grad is None else leaf.grad + dleaf

    def __len__(self):
        if self.data.ndim == 0:
            raise DTypeError("len", "self", "a tensor without axes", "at least one axis")
        return self.shape[0]

    def __bool__(self):
        return bool(self.item())

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __format__(self, spec):
        return format(self.item(), spec) if self.ndim == 0 else format(str(self), spec)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __repr__(self):
        note = ", requires_grad=True" if self._requires_grad else ""
        return f"tensor({numpy.array2string(self.detach().numpy(), separator=', ', prefix='tensor(')}{note})"

    def __reduce__(self):
        if self._node is not None:
            raise GraphError("pickle", "self", "a computed tensor", "a leaf", "use detach()")
        return Tensor, (self.data, self._requires_grad)


class _Saved(NamedTuple):
    """An array that a rule will read, and what it looked like when the rule was recorded."""

    holder: object  # Tensor, or the array itself
    array: object
    print: object

    def intact(self):
        return raw(self.holder) is self.array and fingerprint(self.array) == self.print


class _Node:
    """How a tensor was computed: where its gradient goes, by which rule, and what the rule reads.

    An edge is the node of a computed input, a leaf Tensor itself, or None where no gradient goes.
    Nodes point to nodes, not to tensors, so that a value no rule reads is let go of at once.
    """

    __slots__ = ("edges", "name", "output", "rule", "saves")

    def __init__(self, name, inputs, rule, saves, output):
        self.name = name
        self.edges = tuple(_edge(v) if wants_grad(v) else None for v in inputs)
        self.rule = rule
        self.saves = saves
        self.output = output  # array, or None where the rule does not read the result

    def gradients(self, dy, useful):
        """(edge, gradient) for every edge that is in `useful` (None: all are)."""
        if self.rule is None:
            raise GraphError(
                self.name, "graph", "a part that an earlier backward pass freed", "a graph that is still whole",
                "pass retain_graph=True to the earlier pass",
            )  # fmt: skip
        for saved in self.saves:
            if not saved.intact():
                raise GraphError(
                    self.name, "graph", f"an array {describe(saved.array)} changed in place since the forward pass",
                    "the values that the gradient needs", "change a copy, or change it after backward()",
                )  # fmt: skip
        thunks = self.rule(dy, None if self.output is None else _computed(self.output, self))
        for edge, thunk in zip(self.edges, thunks, strict=True):
            if edge is not None and (useful is None or id(edge) in useful):
                yield edge, thunk()

    def free(self):
        """Let go of every array; a later pass finds no rule and says so."""
        self.rule = self.output = None
        self.saves = self.edges = ()


def _edge(tensor):
    """What stands for the tensor in the graph: its node, or itself for a leaf."""
    return tensor if tensor._node is None else tensor._node


def _computed(array, node):
    """A Tensor that was computed by node."""
    tensor = Tensor(array)
    tensor._node = node
    tensor._requires_grad = True
    return tensor


def record(name, y, inputs, rule, saves=(), saves_output=False):
    """Wrap the result of an operator, and keep its gradient rule if an input wants a gradient.

    Args:
        name: Public name of the operator, for messages.
        y: The plain array that was computed.
        inputs: What it was computed from: Tensors, arrays or None.
        rule: Function (dy, y) -> one thunk for each input, each giving that input's gradient. y is
            the result if saves_output, otherwise None.
        saves: Those of the inputs whose values the rule reads.
        saves_output: Whether the rule reads the result.

    Returns:
        y itself if no input is a Tensor, otherwise a Tensor.
    """
    if not any(isinstance(v, Tensor) for v in inputs):
        return y
    if not (is_grad_enabled() and any(wants_grad(v) for v in inputs)):
        return Tensor(y)
    kept = [_Saved(v, raw(v), fingerprint(raw(v))) for v in saves if v is not None]
    if saves_output:
        kept.append(_Saved(y, y, fingerprint(y)))
    return _computed(y, _Node(name, inputs, rule, kept, y if saves_output else None))


def raw(value):
    """The plain array of a Tensor; anything else as it is."""
    return value.data if isinstance(value, Tensor) else value


def arrays(*values):
    """The plain arrays of Tensors; anything else as it is."""
    return tuple(raw(v) for v in values)


def wants_grad(value):
    """Whether value is a Tensor that gradients flow to."""
    return isinstance(value, Tensor) and value._requires_grad


def read_by_gradients(a, b):
    """Each of two factors if the gradient of the other is wanted, else None: what no rule reads is let go of."""
    return (a if wants_grad(b) else None), (b if wants_grad(a) else None)


def is_grad_enabled():
    """Whether operators are being recorded in this thread.

    Returns:
        True unless inside no_grad().
    """
    return getattr(_state, "enabled", True)


@contextlib.contextmanager
def _recording(enabled):
    before = is_grad_enabled()
    _state.enabled = enabled
    try:
        yield
    finally:
        _state.enabled = before


def no_grad():
    """Within the block, or in the decorated function, record nothing in this thread.

    Returns:
        A context manager that also works as a decorator.
    """
    return _recording(False)


def enable_grad():
    """Within the block, or in the decorated function, record again, inside a no_grad block too.

    Returns:
        A context manager that also works as a decorator.
    """
    return _recording(True)


def grad(outputs, inputs, grad_outputs=None, retain_graph=None, create_graph=False, allow_unused=False):
    """Gradients of the sum of outputs with respect to inputs, without touching any `grad`.

    Args:
        outputs: A Tensor or a sequence of them.
        inputs: A Tensor or a sequence of them, each with requires_grad.
        grad_outputs: What to multiply each output with; None for outputs of one element.
        retain_graph: Keep what the rules hold, for another pass. Default: create_graph.
        create_graph: Record the pass itself, so that the results can be differentiated.
        allow_unused: Give None for an input that no output depends on instead of raising.

    Returns:
        A tuple of Tensors, one for each input.

    Raises:
        ShapeError: A grad_output is missing for more than one element, or has another shape.
        GraphError: An input is unused, nothing was recorded, a part of the graph was freed by an earlier
            pass, or an array that a rule needs was changed in place.
    """
    outputs, inputs = _sequence(outputs), _sequence(inputs)
    for value in inputs:
        if not wants_grad(value):
            raise GraphError("grad", "inputs", "a value that requires no gradient", "Tensors with requires_grad=True")
    grad_outputs = (None,) * len(outputs) if grad_outputs is None else _sequence(grad_outputs)
    if len(grad_outputs) != len(outputs):
        raise ShapeError("grad", "grad_outputs", f"{len(grad_outputs)} of them", f"{len(outputs)}, one an output")
    found = dict.fromkeys(id(_edge(v)) for v in inputs)
    for edge, gradient in _propagate(outputs, grad_outputs, "grad", retain_graph, create_graph, found):
        found[id(edge)] = gradient
    results = tuple(found[id(_edge(v))] for v in inputs)
    if not allow_unused and any(r is None for r in results):
        raise GraphError(
            "grad", "inputs", f"input {[r is None for r in results].index(True)} that no output depends on",
            "inputs that were used", "pass allow_unused=True to get None for it",
        )  # fmt: skip
    return results


def _sequence(value):
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _seed(operator, output, gradient):
    """The gradient that a pass starts from, checked."""
    if not wants_grad(output):
        raise GraphError(
            operator, "output", "a tensor that requires no gradient", "the result of a recorded operator",
            "set requires_grad=True on an input, outside no_grad()",
        )  # fmt: skip
    if gradient is None:
        if output.data.size != 1:
            raise ShapeError(
                operator, "gradient", f"None for a tensor {list(output.shape)}", "a gradient of that shape",
                "or reduce the tensor to one element first",
            )  # fmt: skip
        with on_device_of(output.data):
            return Tensor(namespace_of(output.data).ones_like(output.data))
    gradient = gradient if isinstance(gradient, Tensor) else Tensor(gradient)
    if gradient.shape != output.shape:
        raise ShapeError(operator, "gradient", list(gradient.shape), list(output.shape))
    if gradient.dtype != output.dtype:
        raise DTypeError(operator, "gradient", gradient.dtype.name, output.dtype.name)
    return gradient


def _propagate(outputs, seeds, operator, retain_graph, create_graph, wanted=None):
    """Walk the tape once in reverse; give (edge, gradient) for the leaves, or for the ids in wanted."""
    retain_graph = create_graph if retain_graph is None else retain_graph
    pending = {}  # id of an edge -> gradient summed so far
    results = []
    with _recording(create_graph):
        for output, seed in zip(outputs, seeds, strict=True):
            _add(pending, _edge(output), _seed(operator, output, seed))
        order = _inputs_first([_edge(output) for output in outputs])
        useful = None if wanted is None else _leading_to(order, wanted)
        while order:  # popping lets go of each part of the graph once nothing needs it any more
            edge = order.pop()
            dy = pending.pop(id(edge), None)
            if dy is None:
                continue
            is_leaf = isinstance(edge, Tensor)
            if is_leaf if wanted is None else id(edge) in wanted:
                results.append((edge, dy))
            if is_leaf:
                continue
            with on_device_of(dy.data):
                for source, gradient in edge.gradients(dy, useful):
                    _add(pending, source, gradient)
            if not retain_graph:
                edge.free()
    return results


def _memory(array):
    """The array that owns the memory of this one."""
    while is_array(getattr(array, "base", None)):
        array = array.base
    return array


def _unshared(gradient, taken):
    """The gradient, or a copy if its memory is another's too: whoever clips gradients writes in place."""
    memory = _memory(gradient.data)
    if memory.size != gradient.data.size or id(memory) in taken or not getattr(memory.flags, "writeable", True):
        return gradient.clone()
    taken.add(id(memory))
    return gradient


def _add(pending, edge, gradient):
    """Add a gradient to what has arrived at this edge so far."""
    known = pending.get(id(edge))
    pending[id(edge)] = gradient if known is None else known + gradient


def _inputs_first(roots):
    """Every edge that the roots were computed from, each after all that it was computed from itself."""
    order, seen = [], set()
    stack = [(root, False) for root in roots]
    while stack:  # a recursive walk would end at Python's recursion limit on deep networks
        edge, done = stack.pop()
        if done:
            order.append(edge)
            continue
        if id(edge) in seen:
            continue
        seen.add(id(edge))
        stack.append((edge, True))
        if isinstance(edge, _Node):
            stack.extend((e, False) for e in edge.edges if e is not None and id(e) not in seen)
    return order


def _leading_to(order, wanted):
    """Ids of the edges in `order` that are wanted or were computed from a wanted one."""
    useful = set()
    for edge in order:
        sources = edge.edges if isinstance(edge, _Node) else ()
        if id(edge) in wanted or any(id(e) in useful for e in sources):
            useful.add(id(edge))
    return useful
