"""Loading a state dict: what fits, what does not, and the copy itself."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy

from fastconv.arrays import describe, is_array, is_cupy, namespace_of, on_device_of
from fastconv.autograd import raw
from fastconv.errors import DTypeError, ShapeError
from fastconv.nn.parameter import Uninitialized


class IncompatibleKeys(NamedTuple):
    """What load_state_dict returns: the keys that did not match, if it was not strict.

    Attributes:
        missing_keys: Keys of the module that the state dict lacks.
        unexpected_keys: Keys of the state dict that the module lacks.
    """

    missing_keys: list
    unexpected_keys: list

    def __repr__(self):
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def matched_state(name, targets, state_dict, strict):
    """Compare a state dict with the state of a module.

    Args:
        name: Class of the module, for messages.
        targets: (key, Tensor, whether the state dict may lack it) of all state of the module.
        state_dict: Mapping from keys to arrays or Tensors.
        strict: Whether missing and unexpected keys are refused.

    Returns:
        IncompatibleKeys, and a list of (Tensor of the module, array for it).

    Raises:
        DTypeError: state_dict is no mapping.
        ShapeError: Something does not fit; the message names every such key.
    """
    if not isinstance(state_dict, Mapping):
        raise DTypeError("load_state_dict", "state_dict", describe(state_dict), "a mapping from names to arrays")
    known = {key for key, _, _ in targets}
    missing = [key for key, _, optional in targets if key not in state_dict and not optional]
    unexpected = [key for key in state_dict if key not in known]
    faults = []
    if strict and missing:
        faults.append("missing keys " + ", ".join(missing))
    if strict and unexpected:
        faults.append("unexpected keys " + ", ".join(map(str, unexpected)))
    pairs = []
    for key, target, _ in targets:
        if key not in state_dict:
            continue
        array = raw(state_dict[key])  # once: an archive reads its file at every access
        pairs.append((target, array))
        if not _is_array_or_scalar(array):
            kind = f"{type(array).__module__}.{type(array).__name__}"
            faults.append(f"{key} {kind}, which is no array (a torch.Tensor has .numpy())")
        elif array.shape != target.shape and not isinstance(target, Uninitialized):
            faults.append(f"{key} {list(array.shape)} for a shape {list(target.shape)}")
        elif not is_cupy(target.data) and not target.data.flags.writeable:
            faults.append(f"{key} for an array that is read-only, such as of a fused layer")
    if faults:
        raise ShapeError("load_state_dict", "state_dict", "; ".join(faults), f"the keys and shapes of {name}")
    return IncompatibleKeys(missing, unexpected), pairs


def copy_state(target, array):
    """Copy an array into that of a Tensor, whatever its dtype and device."""
    if isinstance(target, Uninitialized) and array.shape != target.shape:
        target.materialize(array.shape)
    if is_cupy(array) and not is_cupy(target.data):
        array = array.get()
    with on_device_of(target.data):
        target.data[...] = namespace_of(target.data).asarray(array)


def _is_array_or_scalar(value):
    """Whether value has the shape and dtype of an array; NumPy's scalars are arrays without axes."""
    return is_array(value) or isinstance(value, numpy.generic)
