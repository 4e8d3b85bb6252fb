"""The tape: backward and grad, what they keep and free, what they notice, and how deep they reach."""

import gc
import pickle
import sys
import threading
import weakref

import numpy as np
import pytest

import fastconv.functional as F
from fastconv.autograd import Tensor, enable_grad, grad, is_grad_enabled, no_grad
from fastconv.creation import tensor
from fastconv.errors import DTypeError, GraphError, ShapeError
from tests.gradients import check_gradients


def leaf(*shape, seed=0, dtype="float64"):
    return tensor(np.random.default_rng(seed).uniform(0.5, 1.5, shape).astype(dtype), requires_grad=True)


def polynomial(x, w):
    return (x * x * w + F.exp(x) / w - w).sum()


def test_backward_leaves_gradients_at_the_leaves():
    x, w = leaf(3, 4), leaf(3, 4, seed=1)
    constant = tensor(np.ones((3, 4)))
    y = polynomial(x * constant, w)
    y.backward()
    np.testing.assert_allclose(x.grad.data, 2 * x.data * w.data + np.exp(x.data) / w.data, rtol=1e-14)
    np.testing.assert_allclose(w.grad.data, x.data**2 - np.exp(x.data) / w.data**2 - 1, rtol=1e-14)
    assert constant.grad is None
    assert y.grad is None
    assert not x.grad.requires_grad


def test_gradients_add_up_over_passes():
    x = leaf(3)
    (x * 2).backward(np.ones(3))
    first = x.grad
    (x * 3).backward(np.ones(3))
    np.testing.assert_array_equal(x.grad.data, [5, 5, 5])
    np.testing.assert_array_equal(first.data, [2, 2, 2])


def test_an_input_used_often_gets_the_sum():
    x = leaf(3)
    y = x + x * x + x
    y.backward(np.ones(3))
    np.testing.assert_allclose(x.grad.data, 2 + 2 * x.data, rtol=1e-15)


def test_a_diamond_is_walked_once():
    """2 ** 60 paths lead back to x; each node runs its rule one time."""
    x = leaf(1)
    y = x
    for _ in range(60):
        y = y + y
    (dx,) = grad(y, x)
    np.testing.assert_array_equal(dx.data, [2.0**60])


def test_grad_touches_no_leaf():
    x, w = leaf(3), leaf(3, seed=1)
    dx, dw = grad(polynomial(x, w), (x, w))
    assert x.grad is None and w.grad is None
    assert dx.shape == dw.shape == (3,)


def test_grad_of_several_outputs_and_of_inner_tensors():
    x = leaf(3)
    inner = x * 2
    first, second = inner * inner, inner.sum()
    dinner, dx = grad((first, second), (inner, x), (np.full(3, 2.0), None))
    np.testing.assert_allclose(dinner.data, 4 * inner.data + 1, rtol=1e-15)
    np.testing.assert_allclose(dx.data, 2 * (4 * inner.data + 1), rtol=1e-15)


def test_an_output_may_be_an_input():
    x = leaf(2)
    (dx,) = grad(x, x, np.array([1.0, 2.0]))
    np.testing.assert_array_equal(dx.data, [1, 2])
    x.backward(np.array([3.0, 4.0]))
    np.testing.assert_array_equal(x.grad.data, [3, 4])


def test_second_derivatives_are_right():
    x, w = leaf(3, 2).data, leaf(3, 2, seed=1).data
    check_gradients(lambda x, w: x * x * w + F.exp(x) / w, x, w)
    check_gradients(lambda x, w: F.tanh(x @ w.T).sum() * F.sigmoid(w).mean(), x, w)


def test_third_derivative():
    x = leaf(4)
    y = (x**5).sum()
    for factor in (5, 20, 60):
        (dx,) = grad(y, x, create_graph=True)
        y = dx.sum()
        np.testing.assert_allclose(dx.data, factor * x.data ** (4 - [5, 20, 60].index(factor)), rtol=1e-13)


def test_backward_with_a_graph_gives_gradients_that_can_be_differentiated():
    x = leaf(3)
    (x**3).sum().backward(create_graph=True)
    assert x.grad.requires_grad
    (second,) = grad(x.grad.sum(), x)
    np.testing.assert_allclose(second.data, 6 * x.data, rtol=1e-15)


def test_a_graph_is_freed_by_the_pass_unless_retained():
    x = leaf(3)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_allclose(x.grad.data, 4 * x.data, rtol=1e-15)
    with pytest.raises(GraphError, match=r"sum: graph: .*retain_graph=True"):
        y.backward()
    inner = x * x
    inner.sum().backward()
    with pytest.raises(GraphError, match="mul: graph"):
        (inner * 2).sum().backward()


@pytest.mark.parametrize("call", [lambda y, x: y.backward(), lambda y, x: grad(y, x)])
def test_more_than_one_element_needs_a_gradient(call):
    x = leaf(3)
    with pytest.raises(ShapeError, match=r"gradient: got None for a tensor \[3\]"):
        call(x * 2, x)
    call((x * 2)[:1], x)  # one element, though it has an axis


def test_refusals():
    x, y = leaf(3), leaf(3) * 2
    for call, error, message in (
        (lambda: y.backward(np.ones(2)), ShapeError, r"gradient: got \[2\], expected \[3\]"),
        (lambda: y.backward(np.ones(3, "float32")), DTypeError, "gradient: got float32"),
        (lambda: y.backward([1, 1, 1]), DTypeError, "data: got list"),
        (lambda: tensor(np.ones(1)).backward(), GraphError, "backward: output"),
        (lambda: y.detach().backward(np.ones(3)), GraphError, "backward: output"),
        (lambda: grad(y, tensor(np.ones(3)), np.ones(3)), GraphError, "grad: inputs"),
        (lambda: grad(y, x, np.ones(3)), GraphError, "input 0 that no output depends on"),
        (lambda: grad((y, y), x, (np.ones(3),)), ShapeError, "grad_outputs"),
        (lambda: y.numpy(), GraphError, "detach"),
        (lambda: y.item(), ShapeError, "item"),
        (lambda: setattr(y, "requires_grad", False), GraphError, "detach"),
        (lambda: setattr(tensor(np.arange(3)), "requires_grad", True), DTypeError, "int64"),
        (lambda: pickle.dumps(y), GraphError, "pickle"),
        (lambda: bool(x), ShapeError, "item"),
        (lambda: len(tensor(np.float64(1))), DTypeError, "len"),
        (lambda: x.__setitem__(0, 1.0), GraphError, "setitem: self"),
        (lambda: y.__setitem__(0, 1.0), GraphError, "setitem: self"),
        (lambda: tensor(np.ones(3)).__setitem__(0, y[0]), GraphError, "setitem: value"),
        (lambda: tensor(np.ones(3)).__setitem__(5, 1.0), ShapeError, "setitem: index"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_allow_unused_gives_none():
    x, other = leaf(3), leaf(2)
    dx, none = grad((x * 2).sum(), (x, other), allow_unused=True)
    assert none is None
    np.testing.assert_array_equal(dx.data, [2, 2, 2])


def test_only_what_leads_to_the_wanted_inputs_is_computed():
    x, w = leaf(3), leaf(3, seed=1)
    y = F.exp(x) * w
    ran = []
    spied = y._node.rule
    y._node.rule = lambda dy, out: tuple(lambda t=t, i=i: ran.append(i) or t() for i, t in enumerate(spied(dy, out)))
    grad(y.sum(), w)
    assert ran == [1]


def test_no_gradient_is_computed_of_what_wants_none():
    x, constant = leaf(3), tensor(np.ones(3))
    y = x * constant
    ran = []
    spied = y._node.rule
    y._node.rule = lambda dy, out: tuple(lambda t=t, i=i: ran.append(i) or t() for i, t in enumerate(spied(dy, out)))
    y.sum().backward()
    assert ran == [0]


def test_change_of_a_saved_array_is_noticed():
    for change in (
        lambda x, w, y: w.__iadd__(1),  # an input that a rule reads
        lambda x, w, y: w.__setitem__(1, -1.0),
        lambda x, w, y: setattr(x, "data", x.data + 1),  # another array in its place
        lambda x, w, y: x.data.__imul__(2),
        lambda x, w, y: y.data.__imul__(2),  # the result, which the rule of exp reads
    ):
        x, w = leaf(3), np.array([1.0, 2.0, 3.0])
        scaled = x * x * w
        y = F.exp(scaled)
        change(x, w, y)
        with pytest.raises(GraphError, match="changed in place"):
            y.sum().backward()


def test_change_of_an_array_that_no_rule_reads_is_nobodys_business():
    array = np.array([1.0, 2.0, 3.0])
    for function in (
        lambda x: x + 1, lambda x: x - x, lambda x: F.exp(x), lambda x: x * 3.0, lambda x: x.sum(), lambda x: x.T,
        lambda x: x.reshape(3, 1), lambda x: x[1:], lambda x: F.softmax(x, 0), lambda x: F.relu(x).mean(),
        lambda x: F.cat([x, x]), lambda x: F.cast(x, "float32"),
    ):  # fmt: skip
        x = tensor(array.copy(), requires_grad=True)
        y = function(x)
        x.data += 1
        y.backward(np.ones(y.shape, y.dtype))
        assert x.grad.shape == (3,)


def test_a_change_after_the_pass_is_fine():
    x = leaf(3)
    y = (x * x).sum()
    y.backward()
    x.data -= 0.1 * x.grad.data
    (x * x).sum().backward()


def test_gradients_do_not_share_memory():
    """Clipping scales every gradient in place: one shared by two leaves would be scaled twice."""
    a, b, c = leaf(3), leaf(3, seed=1), leaf(1, 3, seed=2)
    seed = np.ones(3)
    (a + b + c.reshape(3)).backward(seed)
    arrays = [a.grad.data, b.grad.data, c.grad.data, seed]
    assert not any(np.shares_memory(u, v) for i, u in enumerate(arrays) for v in arrays[:i])
    for create_graph in (False, True):
        d = leaf(2, 3)
        d.sum().backward(create_graph=create_graph)
        d.grad.data *= 2  # never a read-only view
        np.testing.assert_array_equal(d.grad.data, np.full((2, 3), 2.0))


def test_no_grad_records_nothing():
    x = leaf(3)
    with no_grad():
        assert not is_grad_enabled()
        y = x * 2
        with enable_grad():
            z = x * 2
    assert is_grad_enabled()
    assert not y.requires_grad and z.requires_grad
    assert y.is_leaf and not z.is_leaf

    @no_grad()
    def inside():
        return (x * 2).requires_grad

    assert not inside() and not inside()
    with pytest.raises(ZeroDivisionError), no_grad():
        raise ZeroDivisionError
    assert is_grad_enabled()


def test_no_grad_is_of_its_thread():
    x, seen = leaf(3), {}
    entered, recorded = threading.Event(), threading.Event()

    def quiet():
        with no_grad():
            entered.set()
            recorded.wait(10)
            seen["quiet"] = (x * 2).requires_grad

    def loud():
        entered.wait(10)
        seen["loud"] = (x * 2).requires_grad
        recorded.set()

    threads = [threading.Thread(target=t) for t in (quiet, loud)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert seen == {"quiet": False, "loud": True}


def test_passes_in_threads_do_not_disturb_each_other():
    results = {}

    def work(seed):
        x = leaf(50, seed=seed)
        for _ in range(20):
            x.grad = None
            polynomial(x, leaf(50, seed=seed + 100)).backward()
        results[seed] = x.grad.data

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(4):
        x = leaf(50, seed=seed)
        polynomial(x, leaf(50, seed=seed + 100)).backward()
        np.testing.assert_array_equal(results[seed], x.grad.data)


def nodes():
    """How many parts of graphs are alive."""
    return sum(type(o).__name__ == "_Node" for o in gc.get_objects())


@pytest.mark.parametrize("backward", [True, False])
@pytest.mark.parametrize("step", [lambda y, x: y + 0.5, lambda y, x: y * x, lambda y, x: F.tanh(y)], ids="+*t")
def test_a_chain_of_50000_operators(step, backward):
    """Neither the walk nor the release of the graph may recurse, whatever the rules hold on to."""
    gc.collect()
    before = nodes()
    x = tensor(np.ones(2), requires_grad=True)
    y = x
    for _ in range(50_000):
        y = step(y, x)
    assert sys.getrecursionlimit() < 50_000
    if backward:
        y.backward(np.ones(2))
        assert x.grad.shape == (2,)
    del y
    assert nodes() == before


def test_a_deep_chain_with_a_graph_of_its_gradient():
    before = nodes()
    x = leaf(2)
    y = x
    for _ in range(5_000):
        y = y * x * 0.5 + x
    (dx,) = grad(y.sum(), x, create_graph=True)
    del y
    dx.sum().backward()
    del dx
    gc.collect()
    assert nodes() == before


def test_memory_is_let_go_of():
    """Without the garbage collector: a graph holds no cycles."""
    gc.disable()
    try:
        x = leaf(1000)
        y = F.exp(x)  # its rule reads y
        values = weakref.ref(y.data)
        z = (y * 2).sum()
        del y
        assert values() is not None
        z.backward()
        assert values() is None  # the pass freed it, though z lives

        y = F.exp(x)
        values = weakref.ref(y.data)
        z = (y * 2).sum()
        del y, z
        assert values() is None  # the graph was dropped without a pass

        y = x + 1  # no rule reads it
        values = weakref.ref(y.data)
        z = y + 1
        del y
        assert values() is None
        del z

        y = x * np.ones(1000)  # whose rule reads the array alone
        values = weakref.ref(y.data)
        kept = y * np.ones(1000)
        del y
        assert values() is None and kept.requires_grad
    finally:
        gc.enable()


def test_gradients_within_a_pass_are_let_go_of():
    x = leaf(1000)
    alive = []

    def probe(y):
        spied = y._node.rule

        def rule(dy, out):
            alive.append(weakref.ref(dy.data))
            return spied(dy, out)

        y._node.rule = rule
        return y

    y = x
    for _ in range(5):
        y = probe(F.exp(y * 0.1))
    y.sum().backward()
    assert len(alive) == 5
    assert [r() for r in alive] == [None] * 5


def test_detach_cuts_and_shares():
    x = leaf(3)
    y = x * 2
    cut = y.detach()
    assert cut.data is y.data
    assert cut.is_leaf and not cut.requires_grad
    (cut * x).sum().backward()
    np.testing.assert_array_equal(x.grad.data, cut.data)


def test_leaves_may_be_turned_on_and_off():
    x = tensor(np.ones(2))
    assert not (x * 2).requires_grad
    x.requires_grad = True
    assert (x * 2).requires_grad
    x.requires_grad_(False)
    assert not (x * 2).requires_grad
    x[0] = 5.0
    np.testing.assert_array_equal(x.data, [5, 1])
    x[x > 2] = np.array([7.0])
    np.testing.assert_array_equal(x.data, [7, 1])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_gradients_have_dtype_and_shape_of_their_leaf(dtype):
    x, w = leaf(2, 1, dtype=dtype), leaf(3, seed=1, dtype="float64")
    y = (x * w).sum()
    y.backward(np.ones((), y.dtype))
    assert x.grad.dtype == np.dtype(dtype) and x.grad.shape == (2, 1)
    assert w.grad.dtype == np.float64 and w.grad.shape == (3,)


def test_leaves_are_pickled_with_their_wish():
    x = pickle.loads(pickle.dumps(leaf(3)))
    assert isinstance(x, Tensor) and x.requires_grad
    np.testing.assert_array_equal(x.data, leaf(3).data)


def test_tensors_print_their_values():
    assert repr(tensor(np.array([1.0, 2.0]), requires_grad=True)) == "tensor([1., 2.], requires_grad=True)"
    assert f"{tensor(np.array(0.25)):.1f}" == "0.2"
    assert [float(v) for v in tensor(np.array([1.0, 2.0]))] == [1.0, 2.0]
    assert np.asarray(tensor(np.arange(3))).tolist() == tensor(np.arange(3)).tolist() == [0, 1, 2]
    with pytest.raises(GraphError, match="detach"):
        np.asarray(leaf(2))
