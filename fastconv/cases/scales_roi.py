"""Scales of the errors of roi_align and roi_pool, and how many products they sum, see fastconv.tolerance.bound."""

import math

import numpy

from fastconv import boxes, reference

# Regions have signs of their own: of the first argument alone the absolute values are taken.
SCALES = {
    "roi_align_forward": lambda x, *rest: abs(reference.roi_align_forward(abs(x), *rest)),
    "roi_align_input_grad": lambda dy, *rest: abs(reference.roi_align_input_grad(abs(dy), *rest)),
}


def _roi_align_length(x, rois, output_size, *rule):
    """The most elements that the samples of a bin read."""
    found = boxes.samples(numpy, rois, x.shape[0], output_size, *rule)
    return int(found.count.astype(float).prod(axis=1).max(initial=1)) * 2 ** len(output_size)


def _roi_results(dy, *rest):
    """The most outputs that an element can be part of."""
    return dy.shape[0] * math.prod(dy.shape[2:])


LENGTHS = {
    "roi_align_forward": _roi_align_length,
    "roi_align_input_grad": _roi_results,
    "roi_pool_input_grad": _roi_results,
}
