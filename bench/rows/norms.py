"""Normalisation: of images in both memory formats, and of rows."""

from bench.operator import Operator

_IMAGES = (8, 64, 128, 128)  # 32 MB in float32
_FEW_CHANNELS = (8, 16, 256, 256)
_ROWS = (8192, 1024)
_BOTH = ("channels_first", "channels_last")

_STATISTICS = {"running_mean": ["normal", 64], "running_var": ["positive", 64]}
_CHANNELS = {"weight": ["normal", 64], "bias": ["normal", 64]}
_VECTOR = {"weight": ["normal", 1024], "bias": ["normal", 1024]}

TABLE = [
    *(
        Operator(function, _IMAGES, options, tensors, layout, then)
        for function, options, tensors, then in (
            ("batch_norm", {"training": True}, {**_STATISTICS, **_CHANNELS}, ""),
            ("batch_norm", {"training": True}, {**_STATISTICS, **_CHANNELS}, "relu"),
            ("batch_norm", {"training": False}, {**_STATISTICS, **_CHANNELS}, ""),
            ("batch_norm", {"training": False}, {**_STATISTICS, **_CHANNELS}, "relu"),
            ("group_norm", {"num_groups": 32}, _CHANNELS, ""),
            ("instance_norm", {}, _CHANNELS, ""),
            ("local_response_norm", {"size": 5}, {}, ""),
        )
        for layout in _BOTH
    ),
    Operator("layer_norm", _ROWS, {"normalized_shape": [1024]}, _VECTOR),
    Operator("layer_norm", _IMAGES, {"normalized_shape": [64, 128, 128]}),
    Operator("rms_norm", _ROWS, {"normalized_shape": [1024]}, {"weight": ["normal", 1024]}),
    Operator("rms_norm", _IMAGES, {"normalized_shape": [128]}),
    Operator("normalize", _ROWS, {"dim": 1}),
    Operator("normalize", _FEW_CHANNELS, {"dim": 1}),
]
