"""Work of `make gpu-check` that runs in a process of its own: python -m bench.gpu_work {info,once,repeat}.

info    what the installation says of the GPU; fails where no GPU runs this build
once    a small case of every operator and dtype, each array an allocation of its own: for compute-sanitizer
repeat  a large case of every operator and dtype, twenty times: the same bits every time
"""

import argparse
import importlib
import sys

import numpy

_REPEATS = 20
_DTYPES = ("float32", "float16")
_LARGEST = 5_000_000  # products; the cases of the self-check end not far above


def selection(large):
    """The smallest or the largest case of every operator, dtype and memory format.

    Args:
        large: Which of them.

    Returns:
        A list of Cases.
    """
    from fastconv.cases import operator_cases

    chosen = {}
    for case in operator_cases():
        key = case.operator, case.dtype, case.storage
        if case.dtype not in _DTYPES or case.storage not in ("contiguous", "channels_last") or case.work > _LARGEST:
            continue
        if case.work and (key not in chosen or (case.work > chosen[key].work) == large):
            chosen[key] = case
    return list(chosen.values())


def run(case, backend):
    """Results of one call, as bytes.

    Args:
        case: A Case.
        backend: "cuda", or another backend in its place.
    """
    module = importlib.import_module(f"fastconv.{backend}")
    arguments = case.arguments()
    if backend == "cuda":
        from fastconv.cuda.transfer import as_stored

        arguments = [as_stored(a) if isinstance(a, numpy.ndarray) else a for a in arguments]
    results = getattr(module, case.operator)(*arguments)
    results = results if isinstance(results, tuple) else (results,)
    return [(r.get() if backend == "cuda" else r).tobytes() for r in results]


def once(backend):
    """Run every small case once."""
    if backend == "cuda":
        import cupy

        cupy.cuda.set_allocator(None)  # no pool: the sanitizer shall see the end of every array
    cases = selection(large=False)
    for case in cases:
        run(case, backend)
    print(f"{len(cases)} cases ran")
    return 0


def repeat(backend):
    """Run every large case many times and compare all bits with the first run's."""
    cases, differing = selection(large=True), []
    for case in cases:
        first = run(case, backend)
        if any(run(case, backend) != first for _ in range(_REPEATS - 1)):
            differing.append(f"{case.operator} {case.dtype} {case.name}")
    for name in differing:
        print(f"differs from run to run: {name}")
    print(f"{len(cases)} cases, {_REPEATS} runs each: {len(differing)} differ")
    return int(bool(differing))


def info(backend):
    """Say what there is."""
    from fastconv import config

    config.show_config()
    problem = config.facts()["backends"][backend]
    print(f"the {backend} backend {'can be used' if problem is None else 'cannot be used: ' + problem}")
    return int(problem is not None)


def main(arguments=None):
    """Run the command; the exit status is 0 if all went well."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu_work", description=__doc__.splitlines()[0])
    parser.add_argument("work", choices=[function.__name__ for function in (info, once, repeat)])
    parser.add_argument("--backend", default="cuda")
    options = parser.parse_args(arguments)
    return {"info": info, "once": once, "repeat": repeat}[options.work](options.backend)


if __name__ == "__main__":
    sys.exit(main())
