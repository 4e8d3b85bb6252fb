"""Products of elements, sums as one goes along, and products of arrays by their indices."""

import itertools
import string

from fastconv import backend
from fastconv.arrays import describe, is_cupy, is_float
from fastconv.autograd import raw
from fastconv.errors import DTypeError, ShapeError
from fastconv.functional.elementwise import cast, mul
from fastconv.functional.indexing import cat, getitem
from fastconv.functional.linear import matmul
from fastconv.functional.operands import accumulator, array, as_axis, quiet
from fastconv.functional.reduction import sum
from fastconv.functional.shape import flip, moved, movedim, permute, reshape, unsqueeze


def prod(input, dim=None, keepdim=False, *, dtype=None):
    """The product over an axis or over all elements, as torch.prod.

    Args:
        input: Tensor or array; integers and bools are taken as int64.
        dim: The axis; None for all elements.
        keepdim: Whether the axis stays, with size 1.
        dtype: Convert to this dtype first.

    Returns:
        The shape without the axis; a Tensor for a Tensor. Of no elements it is 1.

    Raises:
        ShapeError: There is no such axis.
        DTypeError: input is no array, dim no int, or dtype none that fastconv computes in.
    """
    input = _summable("prod", input, dtype)
    x = array("prod", "input", input)
    kept = x.dtype.newbyteorder("=")
    value = cast(input, accumulator(kept)) if is_float(x) else input
    if dim is None or x.ndim == 0:
        if dim is not None:
            as_axis("prod", "dim", dim, x.ndim)
        return cast(reshape(_product(reshape(value, -1)), ()), kept)
    axis = as_axis("prod", "dim", dim, x.ndim)
    y = _product(movedim(value, axis, 0))
    y = movedim(y, 0, axis) if keepdim else getitem(y, 0)
    return cast(y, kept)


def _product(x):
    """The product along the first axis, which stays with size 1: halves are multiplied until one element is left.

    Each step is a product of two, whose gradients hold where factors are 0.
    """
    length = x.shape[0]
    if length == 0:
        return sum(x, 0, keepdim=True) + raw(x).dtype.type(1)
    while length > 1:
        half = length // 2
        pairs = mul(getitem(x, slice(0, half)), getitem(x, slice(half, 2 * half)))
        x = cat([pairs, getitem(x, slice(2 * half, length))]) if length % 2 else pairs
        length -= half
    return x


def cumsum(input, dim, *, dtype=None):
    """Sums of all elements up to each along an axis, as torch.cumsum.

    Args:
        input: Tensor or array; integers and bools are taken as int64.
        dim: The axis.
        dtype: Convert to this dtype first.

    Returns:
        The shape of input; a Tensor for a Tensor. Halves are added in float32.

    Raises:
        ShapeError: There is no such axis.
        DTypeError: input is no array, dim no int, or dtype none that fastconv computes in.
    """
    input = _summable("cumsum", input, dtype)
    x = array("cumsum", "input", input)
    axis = as_axis("cumsum", "dim", dim, x.ndim)
    if x.ndim == 0:
        return reshape(input, ())
    kept, xp = x.dtype.newbyteorder("="), backend.namespace(x)
    wide = x.astype(accumulator(x.dtype)) if is_float(x) else x
    with quiet():
        y = _scan(xp, wide, axis) if is_cupy(x) else xp.cumsum(wide, axis=axis)
    y = y.astype(kept, copy=False)
    return moved("cumsum", y, input, lambda dy: flip(cumsum(flip(dy, axis), axis), axis))


def _scan(xp, x, axis):
    """Sums up to each element, in an order that follows from the length alone: CuPy's own may not."""
    lead, step = (slice(None),) * axis, 1
    while step < x.shape[axis]:
        first, rest = (*lead, slice(0, step)), (*lead, slice(step, None))
        x = xp.concatenate([x[first], x[rest] + x[(*lead, slice(0, -step))]], axis=axis)
        step *= 2
    return x


def _summable(name, input, dtype):
    if dtype is not None:
        return cast(input, dtype)
    return cast(input, "int64") if array(name, "input", input).dtype.kind in "biu" else input


def _matrix(name, argument, value, ndim):
    x = array(name, argument, value)
    if x.ndim != ndim:
        raise ShapeError(name, argument, list(x.shape), f"{ndim} axes")
    return x


_MATMUL_DOC = """{what}, as torch.{name}.

    Args:
        input: {input}.
        {other}: {shape}; dtype of input.

    Returns:
        {returns}; a Tensor if an argument is one.

    Raises:
        ShapeError: An argument has another number of axes, or the sizes disagree.
        DTypeError: Dtypes differ, or an argument is no array.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """


def bmm(input, mat2):
    x, w = _matrix("bmm", "input", input, 3), _matrix("bmm", "mat2", mat2, 3)
    if x.shape[0] != w.shape[0]:
        raise ShapeError("bmm", "mat2", list(w.shape), f"[{x.shape[0]}, L, K] for input {list(x.shape)}")
    return matmul(input, mat2)


def mm(input, mat2):
    _matrix("mm", "input", input, 2), _matrix("mm", "mat2", mat2, 2)
    return matmul(input, mat2)


def mv(input, vec):
    _matrix("mv", "input", input, 2), _matrix("mv", "vec", vec, 1)
    return matmul(input, vec)


def dot(input, tensor):
    x, w = _matrix("dot", "input", input, 1), _matrix("dot", "tensor", tensor, 1)
    if x.shape != w.shape:
        raise ShapeError("dot", "tensor", list(w.shape), f"{list(x.shape)}, the shape of input")
    return matmul(input, tensor)


def outer(input, vec2):
    _matrix("outer", "input", input, 1), _matrix("outer", "vec2", vec2, 1)
    return mul(unsqueeze(input, 1), vec2)


for _function, _words in (
    (bmm, ("Products of matrices", "[B, M, L]", "mat2", "[B, L, K]", "[B, M, K]")),
    (mm, ("The product of two matrices", "[M, L]", "mat2", "[L, K]", "[M, K]")),
    (mv, ("The product of a matrix and a vector", "[M, L]", "vec", "[L]", "[M]")),
    (dot, ("The sum of the products of two vectors", "[L]", "tensor", "[L]", "A number")),
    (outer, ("The products of all pairs", "[M]", "vec2", "[K]", "[M, K]")),
):
    _function.__doc__ = _MATMUL_DOC.format(
        what=_words[0], name=_function.__name__, input=_words[1], other=_words[2], shape=_words[3], returns=_words[4]
    )


def einsum(equation, *operands):
    """Sums of products named by the indices of the factors, as torch.einsum.

    Factors are brought together two at a time, from left to right, each time by a product of matrices.

    Args:
        equation: Such as "bij,bjk->bik": a letter for each axis, "..." for axes that broadcast, an axis that is not in
            the result is summed over; without "->" the letters that occur once, in alphabetical order.
        operands: Tensors or arrays of one dtype, or one sequence of them.

    Returns:
        The axes that the equation names; a Tensor if an operand is one.

    Raises:
        ShapeError: The equation does not fit the operands, or sizes of a letter differ.
        DTypeError: An operand is no array, dtypes differ, or the equation is no text.
        DeviceError: The arrays live on different devices; nothing is copied in silence.
    """
    if not isinstance(equation, str):
        raise DTypeError("einsum", "equation", describe(equation), 'text such as "ij,jk->ik"')
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = tuple(operands[0])
    arrays = [array("einsum", "operands", v) for v in operands]
    terms, result = _terms(equation, arrays)
    backend.of(*arrays)
    if len({v.dtype.name for v in arrays}) > 1:
        raise DTypeError("einsum", "operands", " and ".join(v.dtype.name for v in arrays), "one dtype")
    sizes = {}
    for letters, v in zip(terms, arrays, strict=True):
        for letter, n in zip(letters, v.shape, strict=True):
            if sizes.setdefault(letter, n) == 1:
                sizes[letter] = n
            if n not in (1, sizes[letter]):
                raise ShapeError("einsum", "operands", f"{n} and {sizes[letter]} for one index", "one size")
    factors = [_diagonal(value, letters) for value, letters in zip(operands, terms, strict=True)]
    value, letters = factors[0]
    for i, (other, others) in enumerate(factors[1:], start=1):
        later = set(result).union(*(rest for _, rest in factors[i + 1 :]))
        value, letters = _contracted(value, letters, other, others, later)
    value, letters = _summed(value, letters, set(result))
    return permute(value, [letters.index(letter) for letter in result]) if letters else value


def _terms(equation, arrays):
    """The letters of each operand and of the result, "..." written out in letters of its own."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    known = set(string.ascii_letters)
    for text in (*terms, right):
        if text.count("...") > 1 or not set(text.replace("...", "", 1)) <= known:
            raise ShapeError("einsum", "equation", repr(equation), 'letters, ",", "->", and "..." at most once each')
    if len(terms) != len(arrays):
        raise ShapeError("einsum", "operands", f"{len(arrays)} of them", f"{len(terms)} for {equation!r}")
    hidden = [v.ndim - len(t.replace("...", "")) for t, v in zip(terms, arrays, strict=True)]
    if any(n < 0 or (n > 0 and "..." not in t) for t, n in zip(terms, hidden, strict=True)):
        shapes = " and ".join(str(list(v.shape)) for v in arrays)
        raise ShapeError("einsum", "operands", shapes, f"axes as in {equation!r}")
    extra = [str(i) for i in range(max(hidden, default=0))]
    spelt = [
        [*text.partition("...")[0], *(extra[len(extra) - n :] if "..." in text else []), *text.partition("...")[2]]
        for text, n in zip(terms, hidden, strict=True)
    ]
    if arrow:
        lead, dots, rest = right.partition("...")
        result = [*lead, *(extra if dots else []), *rest]
        if len(set(result)) < len(result) or not set(result) <= set(itertools.chain(*spelt)):
            raise ShapeError("einsum", "equation", repr(equation), "each index of the result once, of the operands")
    else:
        counts = [letter for letters in spelt for letter in letters]
        result = extra + sorted(letter for letter in set(counts) - set(extra) if counts.count(letter) == 1)
    return spelt, result


def _diagonal(value, letters):
    """The operand with each of its letters once: where one stands twice, elements whose indices are equal."""
    for letter in dict.fromkeys(letters):
        places = [i for i, other in enumerate(letters) if other == letter]
        if len(places) > 1:
            size = max(value.shape[i] for i in places)
            x = array("einsum", "operands", value)
            along = backend.namespace(x).arange(size)
            parts = tuple(
                along * int(value.shape[i] == size) if i in places else slice(None) for i in range(len(letters))
            )
            rest = [other for i, other in enumerate(letters) if i not in places]
            # Indices that are neighbours stand where the first was, others at the front.
            near = places == list(range(places[0], places[0] + len(places)))
            at = len([i for i in range(places[0]) if i not in places]) if near else 0
            value, letters = getitem(value, parts), [*rest[:at], letter, *rest[at:]]
    return value, letters


def _summed(value, letters, kept):
    """The operand without the letters that nobody asks for any more."""
    axes = tuple(i for i, letter in enumerate(letters) if letter not in kept)
    return (sum(value, axes) if axes else value), [letter for letter in letters if letter in kept]


def _contracted(a, of_a, b, of_b, later):
    """Two operands as one, summed over the letters that both have and nobody asks for later."""
    a, of_a = _summed(a, of_a, later | set(of_b))
    b, of_b = _summed(b, of_b, later | set(of_a))
    a, of_a = _spread(a, of_a, b, of_b)
    b, of_b = _spread(b, of_b, a, of_a)
    both = [letter for letter in of_a if letter in of_b]
    batch, inner = [v for v in both if v in later], [v for v in both if v not in later]
    left, right = [v for v in of_a if v not in both], [v for v in of_b if v not in both]

    def shape(value, letters, names):
        return [value.shape[letters.index(name)] for name in names]

    def size(value, letters, names):
        count = 1
        for n in shape(value, letters, names):
            count *= n
        return count

    lead, rows, columns = shape(a, of_a, batch), shape(a, of_a, left), shape(b, of_b, right)
    length = size(a, of_a, inner)
    x = reshape(permute(a, [of_a.index(v) for v in (*batch, *left, *inner)]) if of_a else a,
                [size(a, of_a, batch), size(a, of_a, left), length])  # fmt: skip
    w = reshape(permute(b, [of_b.index(v) for v in (*batch, *inner, *right)]) if of_b else b,
                [size(a, of_a, batch), length, size(b, of_b, right)])  # fmt: skip
    return reshape(matmul(x, w), [*lead, *rows, *columns]), [*batch, *left, *right]


def _spread(a, of_a, b, of_b):
    """a without the axes of size 1 that b has longer, which broadcast."""
    axes = tuple(i for i, v in enumerate(of_a) if v in of_b and a.shape[i] == 1 and b.shape[of_b.index(v)] != 1)
    return (sum(a, axes) if axes else a), [v for i, v in enumerate(of_a) if i not in axes]
