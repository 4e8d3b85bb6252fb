"""Optimizer: groups of parameters, the state of each, and updates in place."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Set

import numpy

from fastconv import backend
from fastconv.arrays import HALVES, describe, is_array, is_cupy, is_dense, is_float, name_of, namespace_of, on_device_of
from fastconv.autograd import Tensor, enable_grad, raw
from fastconv.errors import DTypeError, GraphError, ShapeError

_BLOCK = 1 << 16  # elements that an update works on at a time, so that its temporaries stay in the cache


class Optimizer:
    """Base class of every optimiser; subclasses define _check(group) and _update(param, grad, state, group).

    Args:
        params: An iterable of Tensors, or of dicts with the key "params" and options of their own.
        defaults: Options of the groups that do not set them.

    Attributes:
        param_groups: A list of dicts, each with its "params" and all options; may be changed between steps.
        state: For each parameter a dict of what the optimiser remembers of it.

    Raises:
        ShapeError: There are no parameters, one is given twice, or an option is out of range.
        DTypeError: params holds something that is no floating Tensor.
        GraphError: A parameter was computed: only leaves are optimised.
    """

    def __init__(self, params, defaults):
        self.defaults = defaults
        self.param_groups = []
        self.state = defaultdict(dict)
        if isinstance(params, (Tensor, Mapping)) or is_array(params) or not isinstance(params, Iterable):
            raise DTypeError(self._name, "params", describe(raw(params)), "an iterable of Tensors or of dicts")
        params = list(params)
        if not params:
            raise ShapeError(self._name, "params", "none", "at least one parameter")
        for group in params if isinstance(params[0], Mapping) else [{"params": params}]:
            self.add_param_group(group)

    @property
    def _name(self):
        return type(self).__name__

    def _check(self, group):
        """Refuse options that are out of range; every subclass has its own."""

    def _update(self, param, grad, state, group):
        """Change the array param in place by the array grad; state is the parameter's own dict."""
        raise NotImplementedError(f"{self._name} defines no _update()")

    def add_param_group(self, param_group):
        """Optimise more parameters, with options of their own.

        Args:
            param_group: A dict with "params", a Tensor or an iterable of them; options it lacks are the defaults.

        Raises:
            ShapeError: A parameter is optimised already, or an option is out of range.
            DTypeError: param_group is no dict, or holds something that is no floating Tensor.
            GraphError: A parameter was computed: only leaves are optimised.
        """
        if not isinstance(param_group, Mapping) or "params" not in param_group:
            raise DTypeError(self._name, "param_group", describe(raw(param_group)), 'a dict with the key "params"')
        params = param_group["params"]
        if isinstance(params, Set):
            raise DTypeError(self._name, "params", "a set", "a sequence: the order of a set is not kept")
        group = {**self.defaults, **param_group, "params": [params] if isinstance(params, Tensor) else list(params)}
        known = {id(param) for other in self.param_groups for param in other["params"]}
        for param in group["params"]:
            if not isinstance(param, Tensor) or not is_float(param.data):
                raise DTypeError(self._name, "params", describe(raw(param)), "Tensors of a floating dtype")
            if not param.is_leaf:
                raise GraphError(self._name, "params", "a computed tensor", "a leaf", "use detach()")
            if id(param) in known:
                raise ShapeError(self._name, "params", f"a parameter {list(param.shape)} twice", "each once")
            known.add(id(param))
        self._check(group)
        self.param_groups.append(group)

    def zero_grad(self, set_to_none=True):
        """Forget the gradient of every parameter, or fill it with zeros."""
        for group in self.param_groups:
            for param in group["params"]:
                if set_to_none:
                    param.grad = None
                elif param.grad is not None:
                    with on_device_of(param.data):
                        param.grad = Tensor(namespace_of(param.data).zeros_like(param.data))

    def step(self, closure=None):
        """Update every parameter that has a gradient.

        Args:
            closure: A function that computes the loss, calls backward() and returns the loss; called first.

        Returns:
            What closure returned, or None.

        Raises:
            ShapeError: A gradient has not the shape of its parameter.
            DTypeError: A gradient has not the dtype of its parameter.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    grad = self._checked_grad(param)
                    with on_device_of(param.data):
                        self._update(param.data, grad, self.state[param], group)
        return loss

    def _checked_grad(self, param):
        grad = raw(param.grad)
        if grad.shape != param.shape:
            raise ShapeError(self._name, "grad", list(grad.shape), f"{list(param.shape)}, as its parameter")
        if grad.dtype != param.dtype:
            raise DTypeError(self._name, "grad", grad.dtype.name, f"{param.dtype.name}, as its parameter")
        backend.namespace(param.data, grad)  # refuses arrays on different devices
        return grad

    def state_dict(self):
        """The options and the state, with a number in place of each parameter, as PyTorch numbers them.

        Returns:
            A dict with "state", from numbers to dicts whose arrays are the optimiser's own, and "param_groups".
        """
        numbers = {id(param): i for i, param in enumerate(self._params())}
        groups = [{**group, "params": [numbers[id(p)] for p in group["params"]]} for group in self.param_groups]
        state = {numbers[id(param)]: dict(known) for param, known in self.state.items() if known}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict):
        """Take over options and state; arrays are copied to the dtype and device of their parameter.

        Args:
            state_dict: What state_dict() returned, for as many parameters in as many groups.

        Raises:
            ShapeError: Groups, parameters or shapes of arrays do not match, or an option is out of range.
        """
        groups = state_dict["param_groups"]
        sizes, own = ([len(group["params"]) for group in side] for side in (groups, self.param_groups))
        if sizes != own:
            raise ShapeError(self._name, "state_dict", f"groups of {sizes} parameters", f"groups of {own}")
        merged = [
            {**self.defaults, **group, "params": mine["params"]}
            for group, mine in zip(groups, self.param_groups, strict=True)
        ]
        for group in merged:
            self._check(group)
        params = list(self._params())
        numbers = [number for group in groups for number in group["params"]]
        state = defaultdict(dict)
        for param, number in zip(params, numbers, strict=True):
            known = state_dict["state"].get(number)
            if known:
                state[param] = {key: self._loaded(key, value, param.data) for key, value in known.items()}
        self.state = state
        self.param_groups = merged

    def _loaded(self, key, value, param):
        """A value of the state as this optimiser keeps it."""
        array = raw(value)
        if key == "step":  # an array in PyTorch
            return int(array)
        if not is_array(array):
            return value
        if array.shape != param.shape:
            raise ShapeError(self._name, key, list(array.shape), f"{list(param.shape)}, as its parameter")
        if is_cupy(array) and not is_cupy(param):
            array = array.get()
        with on_device_of(param):
            return namespace_of(param).array(array, dtype=param.dtype)

    def _params(self):
        return (param for group in self.param_groups for param in group["params"])

    def __repr__(self):
        lines = [f"{self._name} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines.extend(f"    {key}: {group[key]}" for key in sorted(group) if key != "params")
        return "\n".join([*lines, ")"])


def in_memory_order(*arrays):
    """Flat views of arrays that a kernel of the CPU backend can step through side by side, or None."""
    first = arrays[0]
    if is_cupy(first) or name_of(first.dtype) not in ("float32", "float64") or not first.size:
        return None
    if not backend.computes_in_numba():
        return None
    # What is read-only goes the way on which NumPy refuses to write it.
    if not all(a.dtype == first.dtype and a.dtype.isnative and a.flags.writeable and a.flags.aligned for a in arrays):
        return None
    alike = is_dense(first) and all(a.strides == first.strides for a in arrays)
    if not alike and not all(a.flags.c_contiguous for a in arrays):  # strides of axes of length 1 may be any
        return None
    return [a.ravel(order="K") for a in arrays]


def blockwise(update, grad, *changed):
    """Call update(grad, *changed) on one piece of the arrays after the other.

    Halves are updated in float32 and rounded when they are stored.

    Args:
        update: Function of pieces of the arrays; changes those of `changed` in place and leaves that of grad.
        grad: Array.
        *changed: Arrays of the shape and dtype of grad.
    """
    half = name_of(grad.dtype) in HALVES
    for pieces in _pieces(grad, *changed):
        if not half:
            update(*pieces)
            continue
        wide = [piece.astype("float32") for piece in pieces]
        update(*wide)
        for piece, result in zip(pieces[1:], wide[1:], strict=True):
            piece[...] = result


def _pieces(*arrays):
    """Views of rows of all arrays at a time; of all rows on a GPU, where a launch costs more than memory."""
    arrays = [array.reshape(1) if array.ndim == 0 else array for array in arrays]
    rows, size = len(arrays[0]), arrays[0].size
    if is_cupy(arrays[0]) or size <= _BLOCK:
        yield arrays
        return
    step = max(1, _BLOCK * rows // size)
    for start in range(0, rows, step):
        yield [array[start : start + step] for array in arrays]


def check_least(operator, argument, value, least=0.0):
    """Refuse an option that is no number, or below the least one.

    Raises:
        DTypeError: value is no number.
        ShapeError: value is below least, or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, numpy.number)):
        raise DTypeError(operator, argument, describe(raw(value)), "a number")
    if not value >= least:
        raise ShapeError(operator, argument, value, f"at least {least:g}")
