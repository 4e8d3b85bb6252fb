"""Memory of any floating dtype as kernels read and write it: float32 and float64 as they are, halves as 16 bits.

A half is widened to float32 when it is read and rounded once, to the nearest, ties to even, when it is written.
"""

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastconv.cpu import jit
from fastconv.cpu.layout import as_writeable


def memory(x):
    """The elements of x in C order as a flat, native and writeable array; a view where it can be.

    float16 comes as uint16 and bfloat16 as int16, which kernels tell apart by their types.
    """
    dtype = x.dtype if x.dtype.isnative else x.dtype.newbyteorder("=")
    x = np.ascontiguousarray(x, dtype)
    if dtype.itemsize == 2:
        x = x.view(np.uint16 if dtype.kind == "f" else np.int16)
    if not x.flags.writeable:  # Numba would compile every kernel once more for read-only arrays
        x = as_writeable(x)
    return x.reshape(-1)


@intrinsic
def load(typingctx, array, index):
    """array[index] of a memory() in the precision of its arithmetic."""
    widen, _ = _CONVERSIONS.get(array.dtype, (None, None))

    def codegen(context, builder, signature, args):
        value = builder.load(jit.element(context, builder, signature, args))
        return value if widen is None else widen(builder, value)

    return (array.dtype if widen is None else types.float32)(array, types.int64), codegen


@intrinsic
def store(typingctx, array, index, value):
    """array[index] = value in a memory(), rounded once."""
    _, narrow = _CONVERSIONS.get(array.dtype, (None, None))

    def codegen(context, builder, signature, args):
        value = args[2] if narrow is None else narrow(builder, args[2])
        builder.store(value, jit.element(context, builder, signature, args))
        return context.get_dummy_value()

    return types.void(array, types.int64, array.dtype if narrow is None else types.float32), codegen


_SHORT, _WORD = ir.IntType(16), ir.IntType(32)


def _widen_float16(builder, bits):
    return builder.fpext(builder.bitcast(bits, ir.HalfType()), ir.FloatType())


def _narrow_float16(builder, value):
    return builder.bitcast(builder.fptrunc(value, ir.HalfType()), _SHORT)


def _widen_bfloat16(builder, bits):
    return builder.bitcast(builder.shl(builder.zext(bits, _WORD), _WORD(16)), ir.FloatType())


def _narrow_bfloat16(builder, value):
    word = builder.bitcast(value, _WORD)
    odd = builder.and_(builder.lshr(word, _WORD(16)), _WORD(1))
    rounded = builder.add(word, builder.add(odd, _WORD(0x7FFF)))
    nan = builder.fcmp_unordered("uno", value, value)
    return builder.trunc(builder.lshr(builder.select(nan, _WORD(0x7FC00000), rounded), _WORD(16)), _SHORT)


_CONVERSIONS = {
    types.uint16: (_widen_float16, _narrow_float16),
    types.int16: (_widen_bfloat16, _narrow_bfloat16),
}
