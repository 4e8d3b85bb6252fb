"""Convolution and transposed convolution, all three directions, both memory formats."""

from bench import shapes

IS_POOL = False


def _pick(suite, *names):
    rows = {p.name: p for p in shapes.suite(suite)}
    return [rows[name] for name in names]


# One of each kind: 1x1, 3x3 wide and deep, stride 2, depthwise, 3-D, transposed 3-D, one input channel.
QUICK_SELECTION = [
    *_pick("resnet50", "rn50_00", "rn50_02", "rn50_05", "rn50_11"),
    *_pick("convnext", "T/S 192@28"),
    *_pick("unet2d", "1->64@512"),
    *_pick("unet3d", "in.c2", "down1.c1", "up4.convT"),
]


def bench_conv(timed):
    timed()
