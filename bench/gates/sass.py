"""Machine code of fastconv._cuda: what each kernel takes and which instructions it consists of.

The numbers come from NVIDIA's cuobjdump, which calls nvdisasm; both are installed with the `test` extra.
"""

import collections
import os
import pathlib
import re
import shutil
import subprocess
import sysconfig
import tempfile
from typing import NamedTuple

from bench.gates.files import UPDATE

# Instructions by what they are counted as. The committed count is the least that a kernel may have: fewer means that
# the compiler no longer sees that several elements can be moved, or multiplied, at once.
COUNTED = {
    "mma": r"[HIDB]MMA",
    "wgmma": r"[HQI]GMMA",
    "ldmatrix": r"LDSM",
    "tma": r"UTMA(LDG|STG)|UBLKCP",
    "ldg128": r"LDG\.\S*128",
    "stg128": r"STG\.\S*128",
    "lds128": r"LDS\.\S*128",
    "sts128": r"STS\.\S*128",
    "ldgsts128": r"LDGSTS\.\S*128",
}
_SPILLS = r"LDL|STL"

COMPILER = "compiler"  # the group of what is no kernel

_ARCH = re.compile(r"arch = (sm_\w+)")
_FUNCTION = re.compile(r"\s*Function\s*:\s*(\S+)")
_INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)")
_USAGE_OF = re.compile(r" Function (\S+):")
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")
_COMPILER = re.compile(r"Tool Version: .*\bV([\d.]+)")
_ATTRIBUTES_OF = re.compile(r"\.nv\.info\.(\S+)$")


class ToolError(RuntimeError):
    """There is nothing to disassemble with."""


class Processor(NamedTuple):
    """Limits of a streaming multiprocessor (CUDA C++ Programming Guide, compute capabilities)."""

    warps: int
    blocks: int
    shared: int  # bytes
    registers: int = 65536


_PROCESSORS = {
    "75": Processor(32, 16, 64 * 1024),
    "80": Processor(64, 32, 164 * 1024),
    "86": Processor(48, 16, 100 * 1024),
    "89": Processor(48, 24, 100 * 1024),
    "90": Processor(64, 32, 228 * 1024),
    "100": Processor(64, 32, 228 * 1024),
    "120": Processor(48, 24, 100 * 1024),
}
_RESERVED_SHARED = 1024  # of each block, from compute capability 8.0 on


def measure(extension):
    """The numbers of every kernel.

    Args:
        extension: Path of an object or a shared object.

    Returns:
        A dict from architecture, such as "sm_80", to a dict from kernel, such as "layout_copy_kernel<float>", to its
        numbers: registers, threads of a block at most (0 where no launch bound says so), bytes of static shared memory
        and of stack, spills, percent of the warps that fit a multiprocessor, and of COUNTED what is not 0. Besides,
        under COMPILER, what compiled them.

    Raises:
        ToolError: cuobjdump or nvdisasm is not there.
    """
    with tempfile.TemporaryDirectory(prefix="fastconv-gates-") as folder:
        dumped = _Cuobjdump(folder, extension)
        opcodes = _opcodes(dumped("-sass"))
        usage = _usage(dumped("-res-usage"))
        headers = dumped("-elf")
    threads = _threads(headers)
    readable = _readable({name for _, name in usage})
    numbers = collections.defaultdict(dict)
    for (arch, name), (registers, stack, shared) in usage.items():
        if not readable[name]:
            continue
        found = _numbers(arch, registers, stack, shared, threads.get((arch, name), 0), opcodes[arch, name])
        numbers[arch][readable[name]] = found
    compilers = sorted({match[1] for line in headers if (match := _COMPILER.search(line))})
    return {COMPILER: {"nvcc": {"versions": compilers}}, **numbers}


def _numbers(arch, registers, stack, shared, threads, opcodes):
    counts = {name: _count(opcodes, pattern) for name, pattern in COUNTED.items()}
    return {
        "registers": registers,
        "threads": threads,
        "shared": shared,
        "stack": stack,
        "spills": _count(opcodes, _SPILLS),
        "occupancy": occupancy(arch, registers, shared, threads),
        **{name: count for name, count in counts.items() if count},
    }


def _count(opcodes, pattern):
    return sum(count for opcode, count in opcodes.items() if re.match(pattern, opcode))


def occupancy(arch, registers, shared, threads):
    """Percent of a multiprocessor's warps that are resident when blocks of so many threads fill it.

    Dynamic shared memory is the launch's to choose and is not counted.

    Args:
        arch: Such as "sm_90a".
        registers: Of a thread.
        shared: Bytes of a block.
        threads: Of a block; 0 gives 0.
    """
    processor = _PROCESSORS.get(re.sub(r"\D", "", arch))
    if processor is None or not threads:
        return 0
    warps = -(-threads // 32)
    of_warp = -(-registers * 32 // 256) * 256  # registers are handed out in units of 256
    blocks = min(
        processor.blocks,
        processor.warps // warps,
        processor.registers // (of_warp * warps),
        processor.shared // (shared + _RESERVED_SHARED),
    )
    return round(100 * blocks * warps / processor.warps)


def problems(committed, measured):
    """What is worse than committed, or not committed at all.

    Args:
        committed: Content of sass.json.
        measured: What measure() returned; architectures that are not in it are not compared, and of the code of
            another compiler than the committed one only the spills are judged.

    Returns:
        A list of sentences.
    """
    found = []
    same = committed.get(COMPILER, measured.get(COMPILER)) == measured.get(COMPILER)
    for arch, kernels in measured.items():
        if arch == COMPILER:
            continue
        known = committed.get(arch, {})
        for kernel, numbers in kernels.items():
            where = f"{arch} {kernel}"
            if numbers["spills"] or numbers["stack"]:
                found.append(f"{where}: {numbers['spills']} spills, {numbers['stack']} bytes of stack, expected none")
            if not same:
                continue
            if kernel in known:
                found.extend(f"{where}: {words}" for words in _worse(known[kernel], numbers))
            else:
                found.append(f"{where}: has no committed numbers; {UPDATE} writes them")
        gone = sorted(set(known) - set(kernels)) if same else ()
        found.extend(f"{arch} {kernel}: is committed and no longer there; {UPDATE} removes it" for kernel in gone)
    return found


def _worse(known, numbers):
    for name in ("registers", "shared"):
        if numbers[name] > known[name]:
            yield f"{name} rose from {known[name]} to {numbers[name]}"
    for name in COUNTED:
        if numbers.get(name, 0) < known.get(name, 0):
            yield f"{name} instructions fell from {known[name]} to {numbers.get(name, 0)}"


class _Cuobjdump:
    """Calls of cuobjdump, beside whose program nvdisasm has to lie.

    Args:
        folder: An empty folder.
        extension: Path of what is dumped.
    """

    def __init__(self, folder, extension):
        self._folder, self._extension = folder, str(pathlib.Path(extension).resolve())
        for tool in ("cuobjdump", "nvdisasm"):
            os.symlink(_tool(tool), pathlib.Path(folder, tool))

    def __call__(self, what):
        command = [pathlib.Path(self._folder, "cuobjdump"), what, self._extension]
        environment = {**os.environ, "PATH": os.pathsep.join((self._folder, os.environ.get("PATH", "")))}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise RuntimeError(f"cuobjdump {what} {self._extension}: {done.stderr.strip() or done.returncode}")
        return done.stdout.splitlines()


def _tool(name):
    """Path of a tool from NVIDIA's wheels, or from PATH."""
    for scheme in ("purelib", "platlib"):
        wheels = sorted(pathlib.Path(sysconfig.get_path(scheme), "nvidia").glob(f"cu*/bin/{name}"), reverse=True)
        if wheels:
            return str(wheels[0])
    found = shutil.which(name)
    if found is None:
        raise ToolError(f"{name} is not there: pip install 'fastconv[test]', or nvidia-cuda-{name}")
    return found


def _opcodes(lines):
    """(architecture, mangled name) -> how often each opcode occurs."""
    opcodes, arch, function = collections.defaultdict(collections.Counter), None, None
    for line in lines:
        if match := _INSTRUCTION.match(line):
            opcodes[arch, function][match[1]] += 1
        elif match := _FUNCTION.match(line):
            function = match[1]
        elif match := _ARCH.match(line):
            arch = match[1]
    return opcodes


def _usage(lines):
    """(architecture, mangled name) -> registers, bytes of stack and local memory, bytes of static shared memory."""
    usage, arch, function = {}, None, None
    for line in lines:
        if match := _USAGE.search(line):
            registers, stack, shared, local = map(int, match.groups())
            usage[arch, function] = (registers, stack + local, shared)
        elif match := _USAGE_OF.match(line):
            function = match[1]
        elif match := _ARCH.match(line):
            arch = match[1]
    return usage


def _threads(lines):
    """(architecture, mangled name) -> threads of a block at most, where a launch bound says so."""
    threads, arch, function, wanted = {}, None, None, False
    for line in lines:
        if match := _ARCH.match(line):
            arch = match[1]
        elif match := _ATTRIBUTES_OF.match(line):
            function = match[1]
        elif "Attribute:" in line:
            wanted = line.endswith(("EIATTR_MAX_THREADS", "EIATTR_REQNTID"))
        elif wanted and "Value:" in line:
            sizes = [int(word, 16) for word in re.findall(r"0x[0-9a-f]+", line)]
            threads[arch, function] = sizes[0] * sizes[1] * sizes[2]
            wanted = False
    return threads


def _readable(names):
    """Mangled name -> name with template arguments, without namespaces and parameters; None for what is no kernel."""
    ordered = sorted(names)
    text = "".join(f"{name}\n" for name in ordered)  # nothing at all where there is no kernel
    demangled = subprocess.run(["c++filt"], input=text, capture_output=True, text=True, check=True).stdout.splitlines()
    return {name: short_name(words) for name, words in zip(ordered, demangled, strict=True)}


def short_name(demangled):
    """The key of a kernel: "k<float>" of "void fastconv::k<float>(float const*)"; None for what is not ours."""
    if not demangled.removeprefix("void ").startswith("fastconv::"):
        return None
    text = demangled.removeprefix("void ").replace("(anonymous namespace)::", "")
    text = re.sub(r"_GLOBAL__N__\w+?::|fastconv::", "", text).replace("> >", ">>")
    depth = 0
    for position, letter in enumerate(text):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and not depth:
            return text[:position]
    return text
