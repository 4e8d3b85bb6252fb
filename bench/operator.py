"""One call of a public function that is timed beside a peer's of the same name."""

import math
from typing import NamedTuple

import numpy

_QUICK = 16  # a tensor of a quick run has about so many times fewer elements


class Operator(NamedTuple):
    """One call to time, such that JSON can carry it.

    Attributes:
        function: Name in torch.nn.functional, or in torch.
        shape: Of the first argument, which is normally distributed, float32; or of its kind.
        options: Keyword arguments that are no arrays.
        tensors: Keyword arguments that are: name to [kind, *shape], with kinds "normal", "filters", "positive",
            "shares", "slopes" and "classes", whose numbers are below the size of the first argument's axis 1. Without
            a shape it is that of the first argument, of classes without their axis.
        layout: "channels_first" or "channels_last": memory of the first argument and of the result's gradient.
        then: Name of a function that is applied to the result, or "".
        kind: That of the first argument.
        has_backward: Whether there is anything to time of its gradients.
        direction: "forward", or "backward": the gradients of all inputs from that of the result.
    """

    function: str
    shape: tuple
    options: dict = {}  # noqa: RUF012 - never changed
    tensors: dict = {}  # noqa: RUF012 - never changed
    layout: str = "channels_first"
    then: str = ""
    kind: str = "normal"
    has_backward: bool = True
    direction: str = "forward"

    @classmethod
    def from_json(cls, data):
        """The Operator of a dict that came as JSON, whose tuples are lists."""
        return cls(**{**data, "shape": tuple(data["shape"])})

    @property
    def name(self):
        """Function, its options and what follows it."""
        words = [self.function, *(f"{k}={v}" for k, v in self.options.items())]
        words += [f"{k}{shape}" for k, (kind, *shape) in self.tensors.items() if kind == "slopes"]
        words += [f"{k}={kind}" for k, (kind, *_) in self.tensors.items() if kind in ("classes", "shares")]
        words += [f"{k}[{'x'.join(map(str, shape))}]" for k, (_, *shape) in self.tensors.items() if len(shape) > 1]
        return " ".join(words + ([f"+ {self.then}"] if self.then else [])).replace(", ", ",")

    def smaller(self):
        """The row of a quick run: the batch is smaller, or the planes are where there are any."""
        if self.shape[0] == 1:  # small already
            return self
        if len(self.shape) < 3 or "normalized_shape" in self.options:
            return self._replace(shape=(max(self.shape[0] // _QUICK, 1), *self.shape[1:]))
        return self._replace(shape=(*self.shape[:2], *(max(n // 4, 1) for n in self.shape[2:])))

    def operands(self):
        """The first argument and the arrays among the keyword arguments, by name; the same in every process."""
        rng = numpy.random.default_rng(0)
        drawn = self._drawn(rng, self.kind, self.shape)
        x = self._stored(2 * drawn if self.kind == "normal" else drawn)
        return x, {name: self._drawn(rng, kind, shape) for name, (kind, *shape) in self.tensors.items()}

    def gradient(self, shape):
        """The gradient of a result of this shape."""
        dy = numpy.asarray(numpy.random.default_rng(1).standard_normal(shape, dtype="float32"))
        return self._stored(dy) if len(shape) == len(self.shape) else dy

    def learned(self):
        """Names of the arrays that a gradient is wanted of besides the first argument."""
        return [name for name in self.tensors if name in ("weight", "bias") and self.tensors[name][0] != "classes"]

    def call(self, functions, x, tensors):
        """The result of a library's functions, a tuple of modules."""
        y = _found(functions, self.function)(x, **tensors, **self.options)
        return _found(functions, self.then)(y) if self.then else y

    def _stored(self, x):
        if self.layout == "channels_first":
            return x
        return numpy.moveaxis(numpy.ascontiguousarray(numpy.moveaxis(x, 1, -1)), -1, 1)

    def _drawn(self, rng, kind, shape):
        if kind == "slopes":
            return numpy.linspace(-0.5, 1, *shape, dtype="float32")
        if kind == "classes":
            return rng.integers(0, self.shape[1], shape or (self.shape[0], *self.shape[2:]))
        shape = shape or self.shape
        if kind == "filters":  # such that results are as large as what they are made of
            return rng.standard_normal(shape, dtype="float32") / numpy.float32(math.sqrt(math.prod(shape[1:])))
        if kind == "shares":
            return rng.uniform(0.01, 0.99, shape).astype("float32")
        values = rng.standard_normal(shape, dtype="float32")
        return abs(values) + 0.5 if kind == "positive" else values


def _found(modules, name):
    """The function of a name in the first module that has it."""
    return next(getattr(module, name) for module in modules if hasattr(module, name))
