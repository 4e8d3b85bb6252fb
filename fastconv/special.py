"""The error function and the normal distribution of arrays, which NumPy lacks.

Source: W. J. Cody, Rational Chebyshev approximations for the error function, Mathematics of
Computation 23 (1969), whose coefficients these are (float64), and a rational function of x squared on
-4 to 4, where float32 is saturated (float32), with the coefficients of Eigen's vectorised erf.
"""

import math

_SMALL = (
    (1.85777706184603153e-1, 3.16112374387056560e00, 1.13864154151050156e02, 3.77485237685302021e02,
     3.20937758913846947e03),
    (1.0, 2.36012909523441209e01, 2.44024637934444173e02, 1.28261652607737228e03, 2.84423683343917062e03),
)  # fmt: skip
_MIDDLE = (
    (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e00, 6.61191906371416295e01,
     2.98635138197400131e02, 8.81952221241769090e02, 1.71204761263407058e03, 2.05107837782607147e03,
     1.23033935479799725e03),
    (1.0, 1.57449261107098347e01, 1.17693950891312499e02, 5.37181101862009858e02, 1.62138957456669019e03,
     3.29079923573345963e03, 4.36261909014324716e03, 3.43936767414372164e03, 1.23033935480374942e03),
)  # fmt: skip
_LARGE = (
    (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
     1.60837851487422766e-2, 6.58749161529837803e-4),
    (1.0, 2.56852019228982242e00, 1.87295284992346725e00, 5.27905102951428412e-1, 6.05183413124413191e-2,
     2.33520497626869185e-3),
)  # fmt: skip
_SINGLE = (
    (-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
     -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02),
    (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
     -1.42647390514189e-02),
)  # fmt: skip


def erf_values(xp, x):
    """erf of an array of float32 or float64, by the module numpy or cupy."""
    if x.dtype.name == "float32":
        x = xp.clip(x.astype("float64"), -4, 4)  # in float32 the rounding of twelve steps would add up
        return (x * _ratio(x * x, _SINGLE)).astype("float32")
    magnitude = xp.abs(x)
    # Beyond 6 erf is 1 in float64; each formula is kept to where it holds, so that none overflows.
    return xp.where(
        magnitude <= 0.46875,
        _erf_small(xp.clip(x, -0.46875, 0.46875)),
        xp.copysign(1 - _erfc(xp, xp.clip(magnitude, 0.46875, 6)), x),
    )


def normal_values(xp, x):
    """Phi(x), the distribution function of the standard normal, exact in its lower tail too."""
    dtype, x = x.dtype, x.astype("float64", copy=False)
    z = xp.abs(x) * math.sqrt(0.5)
    # Beyond 28 even the smallest number of float64 is too large.
    upper = xp.where(z <= 0.46875, 1 - _erf_small(xp.minimum(z, 0.46875)), _erfc(xp, xp.clip(z, 0.46875, 28))) / 2
    return xp.where(x < 0, upper, 1 - upper).astype(dtype, copy=False)


def _erf_small(x):
    return x * _ratio(x * x, _SMALL)


def _erfc(xp, x):
    middle = _ratio(xp.minimum(x, 4), _MIDDLE)
    outer = xp.maximum(x, 4)
    inverse = 1 / (outer * outer)
    large = (1 / math.sqrt(math.pi) - inverse * _ratio(inverse, _LARGE)) / outer
    coarse = xp.trunc(x * 16) / 16  # its square is exact, so that exp is not given a rounded square
    return xp.exp(-coarse * coarse) * xp.exp((coarse - x) * (coarse + x)) * xp.where(x <= 4, middle, large)


def _ratio(x, coefficients):
    numerator, denominator = (_polynomial(x, c) for c in coefficients)
    return numerator / denominator


def _polynomial(x, coefficients):
    """Horner's rule, the highest power first."""
    value = coefficients[0]
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value
