"""One case of every problem on the sanitizers' build of the emulator: run with the library of the sanitizer preloaded.

    LD_PRELOAD=$(g++ -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 FASTCONV_EMULATED=asan \\
        python -m tests.sanitized
"""

from fastconv.cases import operator_cases
from fastconv.cuda import runtime
from tests.emulation import results_of

_LARGEST = 3_000_000  # terms: an access costs ten times as much here


def main():
    """Run the cases; the sanitizers end the process at the first fault."""
    if runtime.emulator("asan").build_kind() != "asan":
        raise SystemExit("the extension was built without the sanitizers")
    seen = {}
    for case in operator_cases():
        if case.quick and case.work <= _LARGEST and case.storage in ("contiguous", "channels_last"):
            halves = case.dtype in ("float16", "bfloat16")
            seen.setdefault((case.operator, case.problem, halves, case.storage), case)
    for case in seen.values():
        results_of(case)
    print(f"{len(seen)} cases of {len({case.operator for case in seen.values()})} operators")


if __name__ == "__main__":
    main()
