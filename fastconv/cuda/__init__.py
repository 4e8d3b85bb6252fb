"""The CUDA backend: the operators of fastconv.backend on CuPy arrays.

None of its operators is written yet. A call on a CuPy array raises NotImplementedError with the name of the
operator; nothing is computed elsewhere in its place.
"""
