"""Networks for a training step and for inference, written once for whichever library is to run them.

A library is what has `nn`: fastconv or torch.
Sources: He et al., arXiv:1512.03385; Ronneberger et al., arXiv:1505.04597; Çiçek et al., arXiv:1606.06650.
"""

import functools
import math
from typing import Any, NamedTuple

import numpy


class Network(NamedTuple):
    """A network and the inputs that it is timed with.

    Attributes:
        build: Function of a library that gives the network, in training mode.
        shape: Of a training batch.
        classes: Scores a sample has, or a pixel.
        dense: Whether every pixel has scores.
    """

    build: Any
    shape: tuple
    classes: int
    dense: bool

    @property
    def rank(self):
        """Number of spatial axes."""
        return len(self.shape) - 2

    def smaller(self):
        """That of a quick run: one sample."""
        return self._replace(shape=(1 if self.rank > 2 else 2, *self.shape[1:]))

    def inputs(self, batch, layout):
        """Images [batch, C, *size] in a memory layout; the same in every process."""
        rng = numpy.random.default_rng(0)
        x = rng.standard_normal((batch, *self.shape[1:]), dtype="float32")
        if layout == "channels_first":
            return x
        return numpy.moveaxis(numpy.ascontiguousarray(numpy.moveaxis(x, 1, -1)), -1, 1)

    def targets(self, batch):
        """The class of every image, or of every pixel."""
        return numpy.random.default_rng(1).integers(0, self.classes, (batch, *(self.shape[2:] if self.dense else ())))

    def state(self, shapes):
        """Parameters and statistics of given shapes, by name; the same in every process."""
        return {
            name: _drawn(name, shape, numpy.random.default_rng(index))
            for index, (name, shape) in enumerate(shapes.items())
        }


def _drawn(name, shape, rng):
    if name.endswith("num_batches_tracked"):
        return numpy.zeros(shape, "int64")
    if name.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape).astype("float32")
    values = rng.standard_normal(shape, dtype="float32")
    if len(shape) > 1:  # filters: results keep about the size of the inputs
        return values * numpy.float32(math.sqrt(2 / math.prod(shape[1:])))
    return 0.1 * values + numpy.float32(name.endswith("weight"))


def _digits(library):
    from examples.digits import build_network

    return build_network(library.nn)


def _resnet18(library, classes):
    nn = library.nn

    class Block(nn.Module):
        def __init__(self, channels, filters, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(filters)
            self.relu = nn.ReLU()
            self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(filters)
            self.downsample = None
            if stride > 1:
                self.downsample = nn.Sequential(
                    nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters)
                )

        def forward(self, x):
            y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            return self.relu(y + (x if self.downsample is None else self.downsample(x)))

    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for filters in (64, 128, 256, 512):
        layers += [Block(channels, filters, 1 if filters == channels else 2), Block(filters, filters, 1)]
        channels = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))


def _unet(library, rank, base, depth, classes):
    nn = library.nn
    conv, norm, pool, up = (getattr(nn, f"{name}{rank}d") for name in ("Conv", "BatchNorm", "MaxPool", "ConvTranspose"))

    class Cat(nn.Module):  # a module, so that bench.onnx_graph sees it
        def forward(self, a, b):
            return library.cat([a, b], 1)

    def twice(channels, filters):
        rows = [(channels, filters), (filters, filters)]
        return nn.Sequential(
            *(layer for c, k in rows for layer in (conv(c, k, 3, padding=1, bias=False), norm(k), nn.ReLU()))
        )

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            widths = [base * 2**level for level in range(depth)]
            self.down = nn.ModuleList(twice(c, k) for c, k in zip([1, *widths], widths, strict=False))
            self.pool, self.cat = pool(2), Cat()
            self.up = nn.ModuleList(up(2 * k, k, 2, 2) for k in reversed(widths[:-1]))
            self.merge = nn.ModuleList(twice(2 * k, k) for k in reversed(widths[:-1]))
            self.head = conv(base, classes, 1)

        def forward(self, x):
            skips = []
            for level, down in enumerate(self.down):
                x = down(self.pool(x) if level else x)
                skips.append(x)
            skips.pop()
            for up, merge in zip(self.up, self.merge, strict=True):
                x = merge(self.cat(skips.pop(), up(x)))
            return self.head(x)

    return UNet()


NETWORKS = {
    "digits": Network(_digits, (64, 1, 8, 8), 10, False),
    "resnet18": Network(functools.partial(_resnet18, classes=200), (16, 3, 64, 64), 200, False),
    "unet2d": Network(functools.partial(_unet, rank=2, base=32, depth=4, classes=2), (4, 1, 128, 128), 2, True),
    "unet3d": Network(functools.partial(_unet, rank=3, base=16, depth=4, classes=2), (1, 1, 64, 64, 64), 2, True),
}
