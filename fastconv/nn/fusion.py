"""fuse: a copy of a network for inference, its batch norms folded into the layers before them.

    norm(w * x + b) = (s * w) * x + (s * (b - mean) + beta)    with s = gamma / sqrt(variance + eps)

Which layer's result goes where is seen in a call: every result of a layer that could be folded into is a Tensor that
notes who reads it, and so is every parameter. What is read by a function, by two modules, after the call or by nobody
is left as it is.
Source of the folding: Jacob et al., arXiv:1712.05877, section 3.2.
"""

import copy
import gc
import itertools
import weakref

import numpy

from fastconv.arrays import device_of, is_cupy
from fastconv.autograd import Tensor, no_grad, raw
from fastconv.errors import DTypeError, GraphError
from fastconv.nn import fused
from fastconv.nn.activation import GELU, ReLU, SiLU
from fastconv.nn.container import Sequential
from fastconv.nn.conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from fastconv.nn.linear import Identity, Linear
from fastconv.nn.module import Module
from fastconv.nn.norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from fastconv.nn.parameter import Uninitialized
from fastconv.transfer import place

# Exact classes: what a subclass does in its own forward() is its own business.
_LAYERS = {
    Conv1d: (fused.FusedConv1d, BatchNorm1d),
    Conv2d: (fused.FusedConv2d, BatchNorm2d),
    Conv3d: (fused.FusedConv3d, BatchNorm3d),
    ConvTranspose1d: (fused.FusedConvTranspose1d, BatchNorm1d),
    ConvTranspose2d: (fused.FusedConvTranspose2d, BatchNorm2d),
    ConvTranspose3d: (fused.FusedConvTranspose3d, BatchNorm3d),
    Linear: (fused.FusedLinear, BatchNorm1d),
}
_WITH_ACTIVATION = (Conv1d, Conv2d, Conv3d)
_NORMS = (BatchNorm1d, BatchNorm2d, BatchNorm3d)
_ACTIVATIONS = {
    ReLU: ("relu", fused.AbsorbedReLU),
    GELU: ("gelu", fused.AbsorbedGELU),
    SiLU: ("silu", fused.AbsorbedSiLU),
}
_EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}


def fuse(model, *example, **named):
    """A copy of a model for inference, in which convolutions compute the batch norm and the activation behind them.

    A batch norm is folded into the convolution, transposed convolution or linear layer whose result it alone takes;
    ReLU, GELU and SiLU are computed by the convolution, before its result is rounded. Which modules follow each other
    is seen while the model, a copy of it, is called once with the example; without one only the neighbours in a
    Sequential do. Functions such as functional.relu are no modules and stay calls of their own. Modules with hooks,
    subclasses of these layers, norms in training mode and norms without running statistics are left as they are, and so
    is what folded weights of a narrow dtype could not hold.

    A network that later sends a result another way than the example went fails with a GraphError.

    Args:
        model: A Module in evaluation mode. It is left as it is.
        *example, **named: What to call it with, of any batch and size that it takes; or nothing.

    Returns:
        The copy. The weights of its convolutions and linear layers are frozen, NumPy arrays that cannot be written, so
        that the CPU backend keeps them in the order in which it reads them; no parameter requires a gradient, but
        gradients reach the input. What was folded is left as a module without parameters, and has no state.

    Raises:
        DTypeError: model is no Module.
        GraphError: model is in training mode.

    Source: Jacob et al., arXiv:1712.05877, section 3.2.
    """
    if not isinstance(model, Module):
        kind = f"{type(model).__module__}.{type(model).__name__}"
        raise DTypeError("fuse", "model", kind, "a fastconv.nn.Module")
    if model.training:
        raise GraphError("fuse", "model", "a model in training mode", "one in evaluation mode", "call model.eval()")
    result = copy.deepcopy(model)
    modules = dict(result.named_modules())
    known = {name for name, module in modules.items() if _is_plain(module)}
    flow = _traced(copy.deepcopy(model), known, example, named) if example or named else _neighbours(result, known)
    layers = [(name, module) for name, module in modules.items() if type(module) in _LAYERS and _is_ready(module)]
    for name, layer in layers:
        _fuse_layer(layer, name, modules, flow)
    return result.requires_grad_(False)


def _is_plain(module):
    """Whether the module is of a class that can be fused, and nobody watches or has replaced what it does."""
    watched = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return type(module) in (*_LAYERS, *_NORMS, *_ACTIVATIONS) and not watched


def _is_ready(module):
    return not any(isinstance(param, Uninitialized) for param in module.parameters())


class _Flow:
    """Between which modules results go, by their names.

    Attributes:
        readers: Of each module, the set of those that read its results; None among them is anything else.
        sources: Of each module, the set of those that it reads; None likewise.
        exposed: Modules whose parameters are read by others.
    """

    def __init__(self):
        self.readers, self.sources, self.exposed = {}, {}, set()

    def add(self, source, reader):
        self.readers.setdefault(source, set()).add(reader)
        self.sources.setdefault(reader, set()).add(source)

    def after(self, name):
        """The one module that reads the results of this one, or None."""
        readers = self.readers.get(name, ())
        return next(iter(readers)) if len(readers) == 1 else None

    def is_pair(self, source, reader):
        """Whether all results of the first go into the second alone, which reads nothing else."""
        return self.after(source) == reader and self.sources[reader] == {source}


def _neighbours(model, known):
    """The _Flow within each Sequential."""
    flow, places = _Flow(), {}
    for _, module in model.named_modules(remove_duplicate=False):
        places[module] = places.get(module, 0) + 1
    names = {module: name for name, module in model.named_modules()}
    inner = {child for m in names if _is_sequence(m) for child in m.children() if _is_sequence(child)}
    for sequence in names:
        if _is_sequence(sequence) and sequence not in inner:
            row = [None, *_row(sequence), None]
            for before, after in itertools.pairwise(row):
                # A norm or layer that stands at two places reads, or is read by, more than its neighbour.
                pair = [
                    names.get(m) if places.get(m) == 1 or type(m) in _ACTIVATIONS else None for m in (before, after)
                ]
                flow.add(*(name if name in known else None for name in pair))
    return flow


def _is_sequence(module):
    return type(module).forward is Sequential.forward and not (module._forward_hooks or module._forward_pre_hooks)


def _row(sequence):
    """The modules that a Sequential calls one after the other, those of Sequentials within it among them."""
    for child in sequence:
        if _is_sequence(child):
            yield from _row(child)
        elif type(child) is not Identity:
            yield child


class _Link:
    """One result of a module, or one of its parameters: who reads it.

    Attributes:
        source: Name of the module.
        reader: Name of the module that may read it now, or None.
        readers: Names of those that have read it; None is anything else.
        tensor: Weak reference to it.
    """

    def __init__(self, source):
        self.source, self.reader, self.readers, self.tensor = source, None, set(), None


class _Watched(Tensor):
    """A Tensor that tells its _Link whenever its values are read or replaced."""

    __slots__ = ("_array", "link")

    def __init__(self, array, link):
        self._array, self.link = array, link
        self.grad, self._node, self._requires_grad = None, None, False
        link.tensor = weakref.ref(self)

    shape = property(lambda self: self._array.shape)
    ndim = property(lambda self: self._array.ndim)
    dtype = property(lambda self: self._array.dtype)
    device = property(lambda self: device_of(self._array))

    @property
    def data(self):
        self.link.readers.add(self.link.reader)
        return self._array

    @data.setter
    def data(self, array):
        self.link.readers.add(None)
        self._array = array

    def unnoticed(self):
        """The array, which nobody is told of."""
        return self._array


def _traced(model, known, example, named):
    """The _Flow of one call of a model, which is used up."""
    flow, results, parameters = _Flow(), [], []
    for name, module in model.named_modules():
        if name in known:
            own = _watched_parameters(module, name)
            parameters += own
            _watch_calls(module, name, own, flow, results)
    with no_grad():
        output = model(*example, **named)
    if any(link.tensor() is not None for link in results):
        gc.collect()
    for link in results:
        kept = link.tensor() is not None  # in the output, or somewhere in the model
        for reader in link.readers | ({None} if kept else set()):
            flow.add(link.source, reader)
    del output
    flow.exposed = {link.source for link in parameters if link.readers - {link.source}}
    return flow


def _watched_parameters(module, name):
    """The _Links of the parameters and buffers of a module."""
    links = []
    for table in (module._parameters, module._buffers):
        for key, value in table.items():
            if value is not None:
                links.append(_Link(name))
                table[key] = _Watched(value.data, links[-1])
    return links


def _watch_calls(module, name, own, flow, results):
    """Let a module say when it reads its own parameters and its input, and watch its results."""

    def links(inputs):
        return [*own, *(v.link for v in inputs if isinstance(v, _Watched))]

    def before(_, inputs):
        for link in links(inputs):
            link.reader = name
        if not (inputs and isinstance(inputs[0], _Watched)):
            flow.add(None, name)

    def after(_, inputs, output):
        for link in links(inputs):
            link.reader = None
        if not isinstance(output, Tensor):
            flow.add(name, None)
            return output
        results.append(_Link(name))
        return _Watched(output.unnoticed() if isinstance(output, _Watched) else output.data, results[-1])

    module.register_forward_pre_hook(before)
    module.register_forward_hook(after)


def _fuse_layer(layer, name, modules, flow):
    """Freeze a layer, with what follows it folded in."""
    kind, last = type(layer), name
    layer.__class__, norm_class = _LAYERS[kind]
    folded = {}
    reader = flow.after(name)
    if reader is not None and type(modules[reader]) is norm_class and not flow.exposed & {name, reader}:
        norm = modules[reader]
        folded = _folded(layer, norm) if flow.is_pair(name, reader) else {}
        if folded:
            layer.norm, last = norm_class.__name__, reader
            layer._norm_mark = norm._mark = object()
            norm._parameters.clear()
            norm._buffers.clear()
            norm.__class__ = fused.FoldedNorm
    layer.fix(**folded)
    reader = flow.after(last)
    if reader is not None and kind in _WITH_ACTIVATION:
        _absorb(layer, modules[reader])


def _absorb(layer, activation):
    """Let a convolution compute an activation that its result goes into."""
    for kind, (word, absorbed) in _ACTIVATIONS.items():
        if type(activation) in (kind, absorbed) and getattr(activation, "approximate", "none") == "none":
            if type(activation) is kind:  # else another layer has found it before
                activation.__class__, activation._mark = absorbed, object()
            layer.activation, layer._activation_mark = word, activation._mark


def _folded(layer, norm):
    """Weight and bias of a layer with a norm folded in, as arguments of fix(); nothing where that cannot be done."""
    channels = layer.out_features if isinstance(layer, Linear) else layer.out_channels
    if norm.training or norm.running_mean is None or norm.running_var is None or norm.num_features != channels:
        return {}
    one, none = numpy.ones(channels), numpy.zeros(channels)
    with numpy.errstate(all="ignore"):
        scale = _wide(norm.weight, one) / numpy.sqrt(_wide(norm.running_var) + norm.eps)
        bias = scale * (_wide(layer.bias, none) - _wide(norm.running_mean)) + _wide(norm.bias, none)
        weight = _wide(layer.weight)
        if getattr(layer, "transposed", False):  # weight is [C, K // groups, *kernel]
            scale = numpy.repeat(scale.reshape(layer.groups, -1), len(weight) // layer.groups, axis=0)
        weight = weight * scale.reshape(*scale.shape, *(1,) * (weight.ndim - scale.ndim))
        dtype = raw(layer.weight).dtype
        arrays = {"weight": weight.astype(dtype), "bias": bias.astype(dtype)}
        filters = tuple(range(scale.ndim, weight.ndim))
        lost = numpy.abs(arrays["weight"].astype("float64") - weight).max(axis=filters, initial=0)
        fine = lost <= _EPS[dtype.name] * numpy.abs(weight).max(axis=filters, initial=0)
        if not fine.all() or not numpy.isfinite(arrays["bias"].astype("float64")).all():
            return {}
    device = device_of(raw(layer.weight))
    return {name: place(array, device) for name, array in arrays.items()}


def _wide(tensor, absent=None):
    """The values of a parameter or buffer on the host, in float64."""
    if tensor is None:
        return absent
    array = raw(tensor)
    return (array.get() if is_cupy(array) else array).astype("float64")
