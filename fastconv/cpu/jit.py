"""All options of the Numba compiler, in one place.

Kernels compile when first called, never at import, and are kept on disk: beside this file, or in the
user's cache folder where that cannot be written, or nowhere at all, in which case every process
compiles anew. FASTCONV_NUMBA_CACHE=0 switches the disk cache off.
"""

import functools
import gc
import os
import pathlib
import pickle

import numba
import numpy as np
from llvmlite import binding
from numba.core import config, types
from numba.extending import intrinsic

# Not True: that adds nnan and ninf, with which NaN no longer passes through a maximum.
FASTMATH = {"contract", "reassoc", "nsz", "arcp"}

_SOURCES = pathlib.Path(__file__).parent
_folder = None  # known once the first kernel is decorated


def target_features():
    """The processor features that Numba compiles for, as LLVM names them: the user's choice, else the host's."""
    features = config.CPU_FEATURES  # what the user forces through NUMBA_CPU_FEATURES
    if features is None:
        features = binding.get_host_cpu_features().flatten()
    return {feature[1:] for feature in features.split(",") if feature.startswith("+")}


def kernel(function):
    """Compile a function on its first call, to run without the GIL.

    Args:
        function: A function that Numba's nopython mode can compile.

    Returns:
        The Numba dispatcher.
    """
    return _compile(function, nogil=True)


def inline(function):
    """As kernel, for helpers that are called from kernels and pasted in where they are called."""
    return numba.njit(function, inline="always", fastmath=FASTMATH, error_model="numpy")


def exact(function):
    """As kernel, for helpers of kernels in which rounding errors matter: operations stay as they are written."""
    return numba.njit(function, fastmath=False, error_model="numpy")  # left unset, it would be that of the caller


def formula(function):
    """As exact but for a product and a sum that may round once together, and always pasted in, so that loops
    over it vectorise."""
    return numba.njit(function, forceinline=True, fastmath={"contract"}, error_model="numpy")


def pasted(function):
    """As formula, for helpers that create no array: no reference to those that they are given is counted either,
    which would cost more than a row of work between two calls."""
    return numba.njit(function, forceinline=True, _nrt=False, fastmath={"contract"}, error_model="numpy")


def _compile(function, **options):
    options.update(fastmath=FASTMATH, error_model="numpy")  # numpy: a division by zero is inf, not an exception
    if os.environ.get("FASTCONV_NUMBA_CACHE", "1") == "0":
        return numba.njit(**options)(function)
    try:
        dispatcher = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # "no locator available": no folder can be written
        return numba.njit(**options)(function)
    _make_cache_safe(dispatcher)
    return dispatcher


def _make_cache_safe(dispatcher):
    """Tie the cached code to every source file here, and let no failure to read or write it reach the caller.

    Numba looks only at the file that holds the function, so a kernel would outlive a change of the
    micro-kernel it calls; and a disk that fills up would turn a convolution into an OSError.
    """
    global _folder
    cache = dispatcher._cache
    _folder = getattr(cache, "cache_path", None)
    files = getattr(cache, "_cache_file", None)
    if files is not None and hasattr(files, "_source_stamp"):
        files._source_stamp = (files._source_stamp, _stamp())
    cache.load_overload = _or_do_without(cache.load_overload, cache)
    cache.save_overload = _or_do_without(cache.save_overload, cache)


def _or_do_without(method, cache):
    """The method of a cache; once it fails the kernel is compiled in every process, as if there were no cache."""

    @functools.wraps(method)
    def call(*args):
        collecting = gc.isenabled()
        gc.disable()  # Numba imports all that it knows at the first use, and looking for garbage would slow it down
        try:
            return method(*args)
        except (OSError, EOFError, pickle.UnpicklingError):
            cache.disable()
            return None
        finally:
            if collecting:
                gc.enable()

    return call


@functools.cache
def _stamp():
    """Size and time of every source file of this package."""
    return tuple((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(_SOURCES.glob("*.py")))


def cache_folder():
    """The folder that holds compiled kernels, or None where there is none."""
    return _folder


@intrinsic
def get(typingctx, array, index):
    """array[index] of a contiguous 1-D array: no wrap-around, so that loops over it vectorise."""

    def codegen(context, builder, signature, args):
        pointer = element(context, builder, signature, args)
        return builder.load(pointer)

    return array.dtype(array, types.int64), codegen


@intrinsic
def put(typingctx, array, index, value):
    """array[index] = value of a contiguous 1-D array: no wrap-around, so that loops over it vectorise."""

    def codegen(context, builder, signature, args):
        builder.store(args[2], element(context, builder, signature, args))
        return context.get_dummy_value()

    return types.void(array, types.int64, array.dtype), codegen


@intrinsic
def select(typingctx, condition, a, b):
    """a where the condition holds, otherwise b; both are computed and nothing branches."""

    def codegen(context, builder, signature, args):
        return builder.select(*args)

    return a(types.boolean, a, a), codegen


@intrinsic
def get_apart(typingctx, array, index):
    """get of memory that no put_apart of the same function writes: loops over both vectorise whatever indices are."""

    def codegen(context, builder, signature, args):
        load = builder.load(element(context, builder, signature, args))
        load.set_metadata("noalias", _results(builder))
        return load

    return array.dtype(array, types.int64), codegen


@intrinsic
def put_apart(typingctx, array, index, value):
    """put into memory that no get_apart of the same function reads."""

    def codegen(context, builder, signature, args):
        store = builder.store(args[2], element(context, builder, signature, args))
        store.set_metadata("alias.scope", _results(builder))
        return context.get_dummy_value()

    return types.void(array, types.int64, array.dtype), codegen


def _results(builder):
    """The scope of memory that put_apart writes."""
    domain = builder.module.add_metadata(["fastconv"])
    return builder.module.add_metadata([builder.module.add_metadata(["fastconv results", domain])])


@intrinsic
def multiply_add(typingctx, a, b, c):
    """a * b + c, rounded once."""

    def codegen(context, builder, signature, args):
        return builder.fma(*args)

    return a(a, a, a), codegen


@inline
def aligned_start(array):
    """Elements from the start of a flat array to its first whole cache line."""
    past = np.int64(array.ctypes.data % 64)  # signed: an unsigned number would make later sums floats
    return (64 - past) % 64 // array.itemsize


def element(context, builder, signature, args):
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return builder.gep(array.data, [args[1]])
