"""Single small images, where a call costs more than the arithmetic in it."""

from bench.operator import Operator

_BOTH = ("channels_first", "channels_last")


def _conv(shape, filters, kernel, groups=1):
    weight = ["filters", filters, shape[1] // groups, kernel, kernel]
    options = {"padding": kernel // 2, "groups": groups}
    return Operator("conv2d", shape, options, {"weight": weight, "bias": ["normal", filters]})


TABLE = [
    *(
        row._replace(layout=layout)
        for row in (
            _conv((1, 1, 28, 28), 16, 3),
            _conv((1, 16, 32, 32), 16, 3),
            _conv((1, 64, 14, 14), 64, 3),
            _conv((1, 64, 14, 14), 64, 1),
            _conv((1, 64, 14, 14), 64, 3, 64),
            Operator("max_pool2d", (1, 16, 32, 32), {"kernel_size": 2}),
            Operator("avg_pool2d", (1, 64, 14, 14), {"kernel_size": 2}),
            Operator("relu", (1, 16, 32, 32)),
        )
        for layout in _BOTH
    ),
    Operator("adaptive_avg_pool2d", (1, 64, 14, 14), {"output_size": 1}),
    Operator("linear", (1, 512), {}, {"weight": ["filters", 128, 512], "bias": ["normal", 128]}),
    Operator("softmax", (1, 1000), {"dim": 1}),
]
