"""The problems that backends are compared on: awkward shapes, storages, dtypes and values.

One list serves the self-check, the tests and the benchmarks, so that what is timed is also what is tested.
"""

from fastconv.cases import (
    activation,
    conv,
    distance,
    elementwise,
    grid,
    loss,
    matmul,
    nms,
    norm,
    pool,
    resize,
    response_norm,
    roi,
)
from fastconv.cases.case import Case, dtype_of, dtypes
from fastconv.cases.gradients import GradientCase, gradient_cases

__all__ = ["Case", "GradientCase", "all_cases", "dtype_of", "dtypes", "gradient_cases", "operator_cases"]


def operator_cases():
    """A list of the Cases of every backend operator, those of one operator and problem next to each other."""
    cases = [*conv.cases(), *pool.cases(), *norm.cases(), *matmul.cases(), *resize.cases(), *loss.cases()]
    cases += [*elementwise.cases(), *activation.cases(), *distance.cases(), *nms.cases()]
    cases += [*response_norm.cases(), *grid.cases(), *roi.cases()]
    order = list(dict.fromkeys(case.operator for case in cases))
    return sorted(cases, key=lambda case: order.index(case.operator))


def all_cases():
    """A list of every Case and GradientCase."""
    return [*operator_cases(), *gradient_cases()]
