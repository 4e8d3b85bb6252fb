"""roi_align and roi_pool on a GPU, in either memory format; gradients in gather form, without atomics.

Where regions lie is computed by the array library, an operation at a time, so that every rounding is that of the other
backends. An image that does not exist is not refused, which would wait for the GPU: its regions are NaN.
"""

import numpy

from fastconv import boxes
from fastconv.cuda.layout import dense, is_channels_last
from fastconv.cuda.runtime import launch


def roi_align_forward(x, rois, output_size, spatial_scale, sampling_ratio, aligned):
    """y [K, C, *output_size]; see fastconv.backend."""
    with launch("roi_align_forward", x) as gpu:
        last = is_channels_last(x)
        rule = x.shape[0], output_size, spatial_scale, sampling_ratio, aligned
        found = boxes.samples(gpu.namespace, dense(gpu, rois), *rule)
        x = dense(gpu, x, last)
        y = gpu.empty((rois.shape[0], x.shape[1], *output_size), x.dtype, last)
        if y.size:
            held = [dense(gpu, a) for a in found]
            arrays = [gpu.read(a) for a in held]
            roi = _roi(gpu, x.shape[0], rois.shape[0], x.shape[1], x.shape[2:], output_size, last)
            gpu.extension.roi_align_forward(gpu.dtype(x), gpu.read(x), gpu.write(y), *arrays, roi, gpu.stream)
        return y


def roi_align_input_grad(dy, rois, batch, size, spatial_scale, sampling_ratio, aligned):
    """dx [batch, C, *size]; see fastconv.backend."""
    with launch("roi_align_input_grad", dy) as gpu:
        last, output = is_channels_last(dy), dy.shape[2:]
        found = boxes.samples(gpu.namespace, dense(gpu, rois), batch, output, spatial_scale, sampling_ratio, aligned)
        dy = dense(gpu, dy, last)
        dx = gpu.empty((batch, dy.shape[1], *size), dy.dtype, last)
        if dx.size:
            held = [dense(gpu, a) for a in (*found, boxes.extent(gpu.namespace, found, output))]
            arrays = [gpu.read(a) for a in held]
            roi = _roi(gpu, batch, rois.shape[0], dy.shape[1], size, output, last)
            gpu.extension.roi_align_input_grad(gpu.dtype(dy), gpu.read(dy), gpu.write(dx), *arrays, roi, gpu.stream)
        return dx


def roi_pool_forward(x, rois, output_size, spatial_scale):
    """y and indices [K, C, *output_size]; see fastconv.backend."""
    with launch("roi_pool_forward", x) as gpu:
        last = is_channels_last(x)
        found = boxes.cells(gpu.namespace, dense(gpu, rois), x.shape[0], x.shape[2:], output_size, spatial_scale)
        x = dense(gpu, x, last)
        shape = rois.shape[0], x.shape[1], *output_size
        y, indices = gpu.empty(shape, x.dtype, last), gpu.empty(shape, numpy.dtype("int64"), last)
        if y.size:
            held = [dense(gpu, a) for a in found]
            arrays = [gpu.read(a) for a in held]
            roi = _roi(gpu, x.shape[0], rois.shape[0], x.shape[1], x.shape[2:], output_size, last)
            results = gpu.write(y), gpu.write(indices)
            gpu.extension.roi_pool_forward(gpu.dtype(x), gpu.read(x), *results, *arrays, roi, gpu.stream)
        return y, indices


def roi_pool_input_grad(dy, rois, indices, batch, size, spatial_scale):
    """dx [batch, C, *size]; see fastconv.backend."""
    with launch("roi_pool_input_grad", dy) as gpu:
        last, output = is_channels_last(dy), dy.shape[2:]
        found = boxes.cells(gpu.namespace, dense(gpu, rois), batch, size, output, spatial_scale)
        dy, indices = dense(gpu, dy, last), dense(gpu, indices, last)
        dx = gpu.empty((batch, dy.shape[1], *size), dy.dtype, last)
        if dx.size:
            held = [dense(gpu, a) for a in found]
            arrays = gpu.read(dy), gpu.read(indices), gpu.write(dx), *map(gpu.read, held)
            roi = _roi(gpu, batch, rois.shape[0], dy.shape[1], size, output, last)
            gpu.extension.roi_pool_input_grad(gpu.dtype(dy), *arrays, roi, gpu.stream)
        return dx


def _roi(gpu, images, regions, channels, size, output, last):
    """The problem as the extension wants it: channels are planes, or lanes where they lie innermost."""
    missing = (1,) * (3 - len(size))
    planes, lanes = (1, channels) if last else (channels, 1)
    return gpu.extension.Roi(images, regions, planes, lanes, (*missing, *size), (*missing, *output), len(missing))
