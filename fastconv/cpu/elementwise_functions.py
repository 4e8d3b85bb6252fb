"""The elementary functions that kernels of single elements are made of, in float32 and float64.

Straight lines of products and sums without a branch or a table, so that loops over them vectorise. Errors are a few
units in the last place; NaN, infinities and subnormal numbers come out as they should. Polynomials are minimax fits.
Source: Cody & Waite, Software Manual for the Elementary Functions (reduction of exp); Shepherd & Laframboise,
Mathematics of Computation 36 (1981) (the variable (a - k) / (a + k) of the normal distribution's tail).
"""

import functools
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload

from fastconv.cpu.jit import formula, select


class _Constants(NamedTuple):
    """What a precision needs.

    Attributes:
        magic: Added and taken away again it rounds to an integer, which meanwhile stands in the lowest bits.
        digits: Of the fraction, by which a number is scaled up whose exponent would not tell its size.
        bias: Of the exponent.
        high, low: ln 2 in two parts, of which the first times any exponent is exact.
        least, largest: Beyond them exp is 0 or infinite.
        flat: Below it expm1 is -1.
        exp: (exp(r) - 1 - r) / r^2 for r of at most ln(2) / 2, the highest power first.
        log: (atanh(s) / s - 1) / s^2 as a polynomial of s^2, for s up to 1 / 3.
        centre, tail, far: k, (a + k) Phi(-a) exp(a^2 / 2) as a polynomial of (a - k) / (a + k), and where
            Phi(-a) is 0.
    """

    magic: float
    digits: int
    bias: int
    high: float
    low: float
    least: float
    largest: float
    flat: float
    exp: tuple
    log: tuple
    centre: float
    tail: tuple
    far: float


_CONSTANTS = {
    "float32": _Constants(
        1.5 * 2**23, 23, 127, 0.693359375, -2.1219444005469057e-4, -104.0, 88.9, -20.0,
        (0.0013941216748207808, 0.008363235741853714, 0.04166637361049652, 0.16666576266288757, 0.5),
        (0.1344207376241684, 0.14115603268146515, 0.20003892481327057, 0.33333319425582886),
        2.5,
        (-0.00015770267054904252, -0.00031162408413365483, 0.0006844123709015548, 0.0025239340029656887,
         -0.001600829535163939, -0.016386186704039574, 0.009235875681042671, 0.13198697566986084,
         -0.43369200825691223, 0.7066566348075867),
        15.0,
    ),
    "float64": _Constants(
        1.5 * 2**52, 52, 1023, 0.693147180369123816490, 1.90821492927058770002e-10, -746.0, 709.9, -40.0,
        (2.5110154340462048e-08, 2.762020367160025e-07, 2.7557242059340425e-06, 2.4801521052860206e-05,
         0.00019841269886836392, 0.0013888888917370848, 0.008333333333322127, 0.04166666666662381,
         0.16666666666666674, 0.5),
        (0.08094236140048541, 0.043942793912385425, 0.06001801493538771, 0.06656930403706215, 0.0769279428104135,
         0.09090894363571367, 0.11111111366343736, 0.14285714283472167, 0.2000000000000763, 0.3333333333333333),
        5.0,
        (-3.234423810841996e-10, 1.379447439656595e-09, 7.964506931344797e-09, -8.143879213285081e-09,
         -6.597448593232184e-08, 4.069624375741391e-08, 4.3279467874771265e-07, -3.3541247278737285e-07,
         -2.7688753376241795e-06, 3.980333396544815e-06, 1.6681004962231396e-05, -4.976264167248133e-05,
         -5.937566466895447e-05, 0.0005448990312516546, -0.0007978694096951365, -0.0029933767664955782,
         0.02079506680099681, -0.0691186387065817, 0.16502036617032986, -0.3135331566712959, 0.49530561596997746,
         -0.6653825028900567, 0.769193049750063),
        40.0,
    ),
}  # fmt: skip


class Functions(NamedTuple):
    """Compiled functions of one number of one precision.

    Attributes:
        exp: Of any number.
        expm1: exp(x) - 1, exact near 0.
        log: Of any number.
        log1p: log(1 + u) of u from 0 to 1.
        log1p_wide: log(1 + u) of any number.
        sigmoid: 1 / (1 + exp(-x)).
        tanh: Of any number.
        normal: (Phi(x), exp(-x^2 / 2)), Phi the distribution function of the standard normal.
        limited: x limited to at least low and at most high; NaN stays.
        magnitude: abs(x).
    """

    exp: object
    expm1: object
    log: object
    log1p: object
    log1p_wide: object
    sigmoid: object
    tanh: object
    normal: object
    limited: object
    magnitude: object


@functools.cache
def functions(dtype):
    """The Functions of "float32" or "float64"."""
    number = np.dtype(dtype).type
    constants = _CONSTANTS[dtype]
    magic, biased = number(constants.magic), number(constants.magic + constants.bias)
    high, low, per_two = number(constants.high), number(constants.low), number(1 / np.log(2))
    least, largest, flat = number(constants.least), number(constants.largest), number(constants.flat)
    centre, far = number(constants.centre), number(constants.far)
    zero, half, one, two, third, tiny = (number(v) for v in (0, 0.5, 1, 2, 1 / 3, 2.0**-60))
    least_normal, infinite, nan = np.finfo(dtype).smallest_normal, number(np.inf), number(np.nan)
    digits, up = number(constants.digits), number(2.0**constants.digits)
    exp_part, log_part, tail = (_polynomial(number, c) for c in (constants.exp, constants.log, constants.tail))

    @formula
    def limited(x, low, high):
        x = select(x < low, low, x)
        return select(x > high, high, x)

    @formula
    def magnitude(x):
        return with_sign(x, one)

    @formula
    def reduced(x):
        """(n, r): x = n ln 2 + r."""
        n = (x * per_two + magic) - magic
        return n, (x - n * high) - n * low

    @formula
    def exp(x):
        n, r = reduced(limited(x, least, largest))
        first = n * half + biased  # 2^n in two factors, as one could be beyond the normal numbers
        second = (n - (first - biased)) + biased
        return (one + r * (one + r * exp_part(r))) * power_of_two(first) * power_of_two(second)

    @formula
    def halves(x):
        """(scale, rest): exp(x) is twice their sum, and rest is exact near 0."""
        n, r = reduced(limited(x, flat, largest))
        scale = power_of_two((n - one) + biased)  # half of 2^n, which may be beyond the largest number
        return scale, scale * (r * (one + r * exp_part(r)))

    @formula
    def expm1(x):
        scale, rest = halves(x)
        return two * (rest + (scale - half))

    @formula
    def log1p(u):
        s = u / (two + u)
        kept = select(s > tiny, s, tiny)  # the square of less is no normal number, which takes many times as long
        square = kept * kept
        return two * s + two * s * (square * log_part(square))

    @formula
    def log(x):
        small = x < least_normal
        scaled = select(small, x * up, x)
        exponent = exponent_of(scaled)
        f = without_exponent(scaled) - one
        s = f / (two + f)
        square = s * s
        near = two * s + two * s * (square * log_part(square))
        exponent = select(small, exponent - digits, exponent)
        y = exponent * high + (near + exponent * low)
        return select((x > zero) & (x < infinite), y, select(x == zero, -infinite, select(x < zero, nan, x)))

    @formula
    def log1p_wide(u):
        t = one + u
        y = log(t)
        return select((t > zero) & (t < infinite), y + (u - (t - one)) / t, y)  # what rounding t took away

    @formula
    def sigmoid(x):
        e = exp(-magnitude(x))
        s = one / (one + e)
        return select(x < zero, e * s, s)

    @formula
    def tanh(x):
        scale, rest = halves(-two * magnitude(x))
        e, less = two * (scale + rest), two * (rest + (scale - half))  # exp(-2 |x|), and that less 1
        beyond = e < third  # where the result is nearer to 1 than to 0
        ratio = select(beyond, two * e, less) / (one + e)
        return with_sign(select(beyond, one - ratio, ratio), x)

    @formula
    def normal(x):
        a = limited(magnitude(x), zero, far)
        r = one / (a + centre)
        density = exp(-half * (a * a))
        below = density * (r * tail((a - centre) * r))
        return select(x < zero, below, one - below), density

    return Functions(exp, expm1, log, log1p, log1p_wide, sigmoid, tanh, normal, limited, magnitude)


def _polynomial(number, coefficients):
    """A compiled polynomial by Horner's rule, the highest power first; as steps in a row, which a loop would not be."""

    @intrinsic
    def value(typingctx, x):
        def codegen(context, builder, signature, args):
            first, *rest = (ir.Constant(args[0].type, float(number(c))) for c in coefficients)
            for step in rest:
                product = builder.fmul(first, args[0], flags=("contract",))
                first = builder.fadd(product, step, flags=("contract",))
            return first

        return x(x), codegen

    return value


@intrinsic
def power_of_two(typingctx, z):
    """2^n of z = n + magic + bias: the exponent is in the lowest bits of z."""
    bits, digits = (32, 23) if z == types.float32 else (64, 52)

    def codegen(context, builder, signature, args):
        integer = ir.IntType(bits)
        shifted = builder.shl(builder.bitcast(args[0], integer), ir.Constant(integer, digits))
        return builder.bitcast(shifted, args[0].type)

    return z(z), codegen


@intrinsic
def exponent_of(typingctx, x):
    """n of a normal x = 2^n m with m from the root of 1/2 to that of 2."""

    def codegen(context, builder, signature, args):
        integer, bits, digits, magic = _layout(x)
        power = builder.ashr(builder.sub(builder.bitcast(args[0], integer), bits(np.sqrt(0.5))), digits)
        # An integer that is added to the bits of magic is added to its value.
        raised = builder.bitcast(builder.add(power, bits(magic)), args[0].type)
        return builder.fsub(raised, ir.Constant(args[0].type, magic))

    return x(x), codegen


@intrinsic
def without_exponent(typingctx, x):
    """m of exponent_of."""

    def codegen(context, builder, signature, args):
        integer, bits, digits, _ = _layout(x)
        value = builder.bitcast(args[0], integer)
        power = builder.ashr(builder.sub(value, bits(np.sqrt(0.5))), digits)
        return builder.bitcast(builder.sub(value, builder.shl(power, digits)), args[0].type)

    return x(x), codegen


def _layout(x):
    """The integer type as wide as a float type, the bits of a number as such, its fraction's digits, and magic."""
    number, signed = (np.float32, np.int32) if x == types.float32 else (np.float64, np.int64)
    constants, integer = _CONSTANTS[x.name], ir.IntType(x.bitwidth)
    return (
        integer,
        lambda value: ir.Constant(integer, int(number(value).view(signed))),
        ir.Constant(integer, constants.digits),
        constants.magic,
    )


@intrinsic
def with_sign(typingctx, x, sign):
    """The absolute value of x with the sign of another number."""

    def codegen(context, builder, signature, args):
        form = ir.FunctionType(args[0].type, [args[0].type] * 2)
        return builder.call(builder.module.declare_intrinsic("llvm.copysign", [args[0].type], form), args)

    return x(x, x), codegen


def exponential(x):
    """exp(x) in kernels of either precision."""


@overload(exponential)
def _exponential(x):
    exp = functions(x.name).exp
    return lambda x: exp(x)


def logistic(x):
    """1 / (1 + exp(-x)) in kernels of either precision."""


@overload(logistic)
def _logistic(x):
    sigmoid = functions(x.name).sigmoid
    return lambda x: sigmoid(x)


def _extreme(name):
    """A function of two numbers that is one of LLVM's."""

    @intrinsic
    def value(typingctx, x, other):
        def codegen(context, builder, signature, args):
            form = ir.FunctionType(args[0].type, [args[0].type] * 2)
            return builder.call(builder.module.declare_intrinsic(name, [args[0].type], form), args)

        return x(x, x), codegen

    return value


# The larger and the smaller of two numbers, NaN if one is: unlike comparisons they vectorise in a search.
largest, smallest = _extreme("llvm.maximum"), _extreme("llvm.minimum")
