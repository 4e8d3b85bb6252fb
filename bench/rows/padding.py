"""Padding of images and volumes in both memory formats; and their blocks, whose gradient is fold."""

from bench.operator import Operator

_IMAGES = (8, 64, 128, 128)  # 32 MB in float32
_VOLUMES = (2, 16, 64, 64, 64)
_BOTH = ("channels_first", "channels_last")
_MODES = ("constant", "reflect", "replicate", "circular")

TABLE = [
    *(
        Operator("pad", shape, {"pad": [1] * (2 * len(shape) - 4), "mode": mode}, {}, layout)
        for shape in (_IMAGES, _VOLUMES)
        for mode in _MODES
        for layout in _BOTH
    ),
    Operator("pad", _IMAGES, {"pad": [-1, 2, 0, 2], "mode": "reflect"}),
    Operator("unfold", (4, 32, 96, 96), {"kernel_size": 3, "padding": 1}),
    Operator("unfold", (8, 3, 224, 224), {"kernel_size": 16, "stride": 16}),
]
