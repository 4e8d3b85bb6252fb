"""roi_align and roi_pool on the CPU, in either memory format: geometry and allocation. The work: roi_kernels.py."""

import numpy as np

from fastconv import boxes
from fastconv.cpu.layout import dense, empty, flat, is_channels_last, narrowed
from fastconv.cpu.roi_kernels import align_images, align_regions, pool_regions, scatter_images
from fastconv.cpu.threads import parallel_for

_PLANES = 16  # channels of a task, where they are planes: a line of cache, once they are brought together
_LANES = 64  # channels of a task, where they are lanes
_SPEED = 0.5  # elements in a nanosecond of one thread, roughly


def roi_align_forward(x, rois, output_size, spatial_scale, sampling_ratio, aligned):
    """y [K, C, *output_size]; see fastconv.backend."""
    image, starts, lengths, counts = _samples(rois, x.shape[0], output_size, spatial_scale, sampling_ratio, aligned)
    last = is_channels_last(x)
    xs = dense(x, last)
    y, ys = empty((image.size, x.shape[1], *output_size), xs.dtype, last)
    if y.size:
        geometry = _geometry(x.shape[1], x.shape[2:], output_size, last)
        work = _bin_size(lengths, counts, x.shape[2:], output_size) * y.size
        arguments = xs, ys, image, starts, lengths, counts, geometry
        parallel_for(align_regions, image.size * geometry[8], work / _SPEED, *arguments)
    return narrowed(y, x)


def roi_align_input_grad(dy, rois, batch, size, spatial_scale, sampling_ratio, aligned):
    """dx [batch, C, *size]; see fastconv.backend."""
    output = dy.shape[2:]
    image, starts, lengths, counts = _samples(rois, batch, output, spatial_scale, sampling_ratio, aligned)
    last = is_channels_last(dy)
    dys = dense(dy, last)
    dx, dxs = empty((batch, dy.shape[1], *size), dys.dtype, last)
    if dx.size:
        geometry = _geometry(dy.shape[1], size, output, last)
        work = _bin_size(lengths, counts, size, output) * dy.size + dx.size
        arguments = dys, dxs, image, starts, lengths, counts, geometry
        parallel_for(align_images, batch * geometry[8], work / _SPEED, *arguments)
    return narrowed(dx, dy)


def roi_pool_forward(x, rois, output_size, spatial_scale):
    """y and indices [K, C, *output_size]; see fastconv.backend."""
    size = x.shape[2:]
    found = boxes.cells(np, _native(rois), x.shape[0], size, output_size, spatial_scale)
    boxes.check_images("roi_pool", found.image, x.shape[0])
    last = is_channels_last(x)
    xs = dense(x, last)
    shape = (found.image.size, x.shape[1], *output_size)
    (y, ys), (indices, at) = empty(shape, xs.dtype, last), empty(shape, np.int64, last)
    if y.size:
        geometry = _geometry(x.shape[1], size, output_size, last)
        work = float((found.end - found.begin).clip(1).max(initial=1)) * y.size
        arguments = xs, ys, at, found.image, found.begin.reshape(-1), found.end.reshape(-1), geometry
        parallel_for(pool_regions, shape[0] * geometry[8], work / _SPEED, *arguments)
    with np.errstate(over="ignore"):
        return narrowed(y, x), indices


def roi_pool_input_grad(dy, rois, indices, batch, size, spatial_scale):
    """dx [batch, C, *size]; see fastconv.backend."""
    image = boxes.images(np, _native(rois), batch)
    boxes.check_images("roi_pool", image, batch)
    last = is_channels_last(dy)
    dys, at = dense(dy, last), _indices(indices, last)
    dx, dxs = empty((batch, dy.shape[1], *size), dys.dtype, last)
    if dx.size:
        geometry = _geometry(dy.shape[1], size, dy.shape[2:], last)
        work = dy.size + dx.size
        parallel_for(scatter_images, batch * geometry[8], work / _SPEED, dys, at, dxs, image, geometry)
    return narrowed(dx, dy)


def _indices(indices, last):
    """Indices [K, C, *output] as flat memory in a format."""
    return np.ascontiguousarray(np.moveaxis(indices, 1, -1) if last else indices, np.int64).reshape(-1)


def _native(rois):
    return rois if rois.dtype.isnative else rois.astype(rois.dtype.newbyteorder("="))


def _samples(rois, batch, output_size, spatial_scale, sampling_ratio, aligned):
    """Image, and flat start, length and count of the bins of each region and axis."""
    found = boxes.samples(np, _native(rois), batch, output_size, spatial_scale, sampling_ratio, aligned)
    boxes.check_images("roi_align", found.image, batch)
    counts = found.count.astype(np.int64)
    return found.image, flat(found.start), flat(found.bin), counts.reshape(-1)


def _geometry(channels, size, output_size, last):
    """(planes, lanes, D, H, W, O, P, Q, blocks of channels, channels of a block, missing axes) as an array."""
    missing = (1,) * (3 - len(size))
    block = _LANES if last else _PLANES
    planes, lanes = (1, channels) if last else (channels, 1)
    blocks = -(-channels // block)
    return np.array((planes, lanes, *missing, *size, *missing, *output_size, blocks, block, len(missing)), np.int64)


def _bin_size(lengths, counts, size, output_size):
    """About how many elements a bin reads."""
    samples = counts.reshape(-1, 3).astype(float).clip(0, max(size)).prod(axis=1)
    return float(samples.mean()) + 1 if samples.size else 1.0
