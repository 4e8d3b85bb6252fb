"""The ONNX graph of a network of bench.networks: its layers are called with names of values instead of values."""

import numpy

import fastconv

_OPSET, _IR = 17, 8


class Value:
    """The name of a value in a graph.

    Args:
        graph: The Graph.
        name: Its name there.
    """

    def __init__(self, graph, name):
        self.graph, self.name = graph, name

    def __add__(self, other):
        return self.graph.node("Add", [self, other])


class Graph:
    """Nodes and constants that are added one after the other.

    Args:
        helper, numpy_helper: Modules of onnx.
    """

    def __init__(self, helper, numpy_helper):
        self._helper, self._numpy_helper = helper, numpy_helper
        self.nodes, self.constants = [], []

    def constant(self, array):
        """The Value of an array."""
        name = f"c{len(self.constants)}"
        self.constants.append(self._numpy_helper.from_array(numpy.ascontiguousarray(array), name))
        return Value(self, name)

    def node(self, operator, inputs, **attributes):
        """The Value that an operator computes of others; arrays among them are constants, None is left out."""
        names = [(v if isinstance(v, Value) else self.constant(v)).name for v in inputs if v is not None]
        name = f"v{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(operator, names, [name], **attributes))
        return Value(self, name)


def exported(network):
    """The serialised ONNX model of a Network in evaluation mode, with the state that every process draws.

    Args:
        network: A bench.networks.Network.

    Returns:
        Bytes: one input "x", of any batch.

    Raises:
        NotImplementedError: A layer has no translation here.
    """
    import onnx  # an extra

    model = network.build(fastconv).eval()
    model.load_state_dict(network.state({k: v.shape for k, v in model.state_dict().items()}))
    graph = Graph(onnx.helper, onnx.numpy_helper)
    for module in model.modules():
        if not list(module.children()):
            module.forward = _translated(module)
    y = model(Value(graph, "x"))
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", *network.shape[1:]])
    axes = ["n", network.classes, *(network.shape[2:] if network.dense else ())]
    out = onnx.helper.make_tensor_value_info(y.name, onnx.TensorProto.FLOAT, axes)
    whole = onnx.helper.make_graph(graph.nodes, "network", [x], [out], graph.constants)
    made = onnx.helper.make_model(whole, opset_imports=[onnx.helper.make_opsetid("", _OPSET)], ir_version=_IR)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def _translated(module):
    """The forward() that adds the operator of a layer to the graph."""
    name = type(module).__name__
    for start, translate in _TRANSLATIONS.items():
        if name.startswith(start):
            return lambda *inputs: translate(module, *inputs)
    raise NotImplementedError(f"no translation of {name} to ONNX")


def _weighted(operator, module, x, **attributes):
    bias = None if module.bias is None else module.bias.data
    return x.graph.node(operator, [x, module.weight.data, bias], **attributes)


def _window(module):
    return {
        "kernel_shape": module.kernel_size,
        "strides": module.stride,
        "pads": [*module.padding, *module.padding],
        "dilations": module.dilation,
        "group": module.groups,
    }


def _per_axis(value, rank):
    return [value] * rank if isinstance(value, int) else list(value)


def _max_pool(module, x):
    rank = int(type(module).__name__[-2])
    kernel, stride, padding = (_per_axis(v, rank) for v in (module.kernel_size, module.stride, module.padding))
    return x.graph.node("MaxPool", [x], kernel_shape=kernel, strides=stride, pads=padding * 2)


def _batch_norm(module, x):
    names = ("weight", "bias", "running_mean", "running_var")
    inputs = [x, *(getattr(module, name).data for name in names)]
    return x.graph.node("BatchNormalization", inputs, epsilon=module.eps)


_TRANSLATIONS = {
    "ConvTranspose": lambda m, x: _weighted("ConvTranspose", m, x, output_padding=m.output_padding, **_window(m)),
    "Conv": lambda m, x: _weighted("Conv", m, x, **_window(m)),
    "BatchNorm": _batch_norm,
    "ReLU": lambda m, x: x.graph.node("Relu", [x]),
    "MaxPool": _max_pool,
    "AdaptiveAvgPool": lambda m, x: x.graph.node("GlobalAveragePool", [x]),  # of size 1
    "Flatten": lambda m, x: x.graph.node("Flatten", [x], axis=1),
    "Linear": lambda m, x: _weighted("Gemm", m, x, transB=1),
    "Dropout": lambda m, x: x,
    "Cat": lambda m, *values: values[0].graph.node("Concat", values, axis=1),
}
