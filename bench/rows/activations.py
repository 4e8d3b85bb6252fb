"""Activations, softmax and normalize, of planes, of rows and of a few classes."""

from bench.operator import Operator

_PLANES = (8, 16, 256, 256)  # 32 MB in float32
_ROWS = (8192, 1024)
_CLASSES = (655_360, 13)

_FUNCTIONS = (
    "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "silu", "gelu", "mish", "softplus", "softsign", "logsigmoid",
    "sigmoid", "tanh", "hardswish", "hardsigmoid", "hardtanh", "tanhshrink", "softshrink", "hardshrink", "rrelu",
)  # fmt: skip

TABLE = [
    *(Operator(name, _PLANES) for name in _FUNCTIONS),
    Operator("gelu", _PLANES, {"approximate": "tanh"}),
    Operator("threshold", _PLANES, {"threshold": 0.1, "value": 0.0}),
    Operator("prelu", _PLANES, tensors={"weight": ["slopes", 1]}),
    Operator("prelu", _PLANES, tensors={"weight": ["slopes", 16]}),
    Operator("glu", _PLANES, {"dim": 1}),
    Operator("softmax", _ROWS, {"dim": 1}),
    Operator("softmax", _CLASSES, {"dim": 1}),
    Operator("softmax", _PLANES, {"dim": 1}),
    Operator("log_softmax", _ROWS, {"dim": 1}),
    Operator("log_softmax", _PLANES, {"dim": 1}),
    Operator("softmin", _ROWS, {"dim": 1}),
]
