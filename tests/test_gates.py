"""The gates that need no GPU: kernels against the committed numbers of bench/gates, and the gates' own logic."""

import json
import os

import pytest

from bench.gates import command, files, sass, trace
from bench.gates.row import Row
from tests.emulation import require

KERNEL = {"registers": 40, "threads": 256, "shared": 1024, "stack": 0, "spills": 0, "occupancy": 75, "mma": 8}


# ---- machine code


def test_machine_code_is_no_worse_than_committed():
    measured, lacking = command.measured_sass()
    if lacking:
        pytest.skip(lacking)
    assert sass.problems(files.load("sass"), measured) == []


def worse(**changes):
    return sass.problems({"sm_80": {"k<float>": KERNEL}}, {"sm_80": {"k<float>": {**KERNEL, **changes}}})


def test_equal_or_better_numbers_pass():
    assert worse() == worse(registers=32, mma=9, ldg128=4) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"registers": 41}, "registers rose from 40 to 41"),
        ({"shared": 2048}, "shared rose from 1024 to 2048"),
        ({"mma": 0}, "mma instructions fell from 8 to 0"),
        ({"spills": 2}, "2 spills, 0 bytes of stack, expected none"),
        ({"stack": 16}, "0 spills, 16 bytes of stack, expected none"),
    ],
)
def test_worse_numbers_fail(changes, words):
    assert worse(**changes) == [f"sm_80 k<float>: {words}"]


def test_spills_fail_even_where_they_are_committed():
    spilling = {"sm_80": {"k": {**KERNEL, "spills": 1}}}
    assert len(sass.problems(spilling, spilling)) == 1


def test_new_and_removed_kernels_name_the_command():
    new, gone = sass.problems({"sm_80": {"old": KERNEL}}, {"sm_80": {"new": KERNEL}})
    assert new == "sm_80 new: has no committed numbers; python -m bench gates --update writes them"
    assert gone == "sm_80 old: is committed and no longer there; python -m bench gates --update removes it"


def test_of_another_compiler_only_spills_are_judged():
    made_by = {"compiler": {"nvcc": {"versions": ["13.0.88"]}}}
    another = {"compiler": {"nvcc": {"versions": ["13.1.0"]}}}
    committed = {**made_by, "sm_80": {"k": KERNEL, "gone": KERNEL}}
    more = {"k": {**KERNEL, "registers": 99}, "new": KERNEL}
    assert len(sass.problems(committed, {**made_by, "sm_80": more})) == 3
    assert sass.problems(committed, {**another, "sm_80": more}) == []
    assert len(sass.problems(committed, {**another, "sm_80": {"k": {**KERNEL, "spills": 1}}})) == 1


def test_architectures_that_were_not_built_are_not_compared():
    assert sass.problems({"sm_80": {"k": KERNEL}, "sm_90a": {"k": KERNEL}}, {"sm_80": {"k": KERNEL}}) == []


@pytest.mark.parametrize(
    ("demangled", "short"),
    [
        ("void fastconv::copy<float>(float const*, fastconv::Strided)", "copy<float>"),
        ("void fastconv::f<(fastconv::Format)1, Pair<int, 2>>(int)", "f<(Format)1, Pair<int, 2>>"),
        ("fastconv::runtime::(anonymous namespace)::probe_kernel()", "runtime::probe_kernel"),
        ("void cub::something<int>(int)", None),
    ],
)
def test_kernels_are_named_as_they_are_written(demangled, short):
    assert sass.short_name(demangled) == short


@pytest.mark.parametrize(
    ("arch", "registers", "shared", "threads", "percent"),
    [
        ("sm_80", 32, 0, 256, 100),
        ("sm_80", 33, 0, 256, 75),  # 40 a thread are handed out: 6 blocks of 8 warps
        ("sm_80", 128, 0, 256, 25),
        ("sm_90a", 32, 48 * 1024, 256, 50),  # 4 blocks of 49 KB
        ("sm_86", 32, 0, 1024, 67),  # one block of 32 warps of 48
        ("sm_80", 32, 0, 0, 0),  # no launch bound
    ],
)
def test_occupancy_by_hand(arch, registers, shared, threads, percent):
    assert sass.occupancy(arch, registers, shared, threads) == percent


CUOBJDUMP = """#!/bin/sh
case $1 in
-sass) cat <<END
arch = sm_80
		Function : _ZN8fastconv1kIfEEvPf
        /*0000*/                   MOV R1, c[0x0][0x28] ;  /* 0x00000a0000017a02 */
                                                           /* 0x000fe40000000f00 */
        /*0010*/              @!P0 LDG.E.128.CONSTANT R4, [R2.64] ;  /* 0x0 */
        /*0020*/                   LDGSTS.E.BYPASS.128 [R9], [R2.64] ;  /* 0x0 */
        /*0030*/                   HMMA.16816.F32 R4, R8, R10, R4 ;  /* 0x0 */
        /*0040*/                   STL [R1], R4 ;  /* 0x0 */
END
;;
-res-usage) cat <<END
arch = sm_80
 Function _ZN8fastconv1kIfEEvPf:
  REG:40 STACK:8 SHARED:512 LOCAL:0 CONSTANT[0]:352 TEXTURE:0
END
;;
-elf) cat <<END
arch = sm_80
Tool Version: Cuda compilation tools, release 13.0, V13.0.88
.nv.info._ZN8fastconv1kIfEEvPf
	Attribute:	EIATTR_MAX_THREADS
	Format:	EIFMT_SVAL
	Value:	0x80 0x2 0x1
END
;;
esac
"""


def test_numbers_are_read_from_what_cuobjdump_prints(tmp_path, monkeypatch):
    for name, text in (("cuobjdump", CUOBJDUMP), ("nvdisasm", "")):
        tmp_path.joinpath(name).write_text(text)
        tmp_path.joinpath(name).chmod(0o755)
    monkeypatch.setattr(sass, "_tool", lambda name: str(tmp_path / name))
    counts = {"mma": 1, "ldg128": 1, "ldgsts128": 1}
    usage = {"registers": 40, "threads": 256, "shared": 512, "stack": 8, "spills": 1, "occupancy": 75}
    assert sass.measure(tmp_path / "any.so") == {
        "compiler": {"nvcc": {"versions": ["13.0.88"]}},
        "sm_80": {"k<float>": {**usage, **counts}},
    }


def test_an_object_without_kernels_has_no_numbers(tmp_path, monkeypatch):
    for name in ("cuobjdump", "nvdisasm"):
        tmp_path.joinpath(name).write_text("#!/bin/sh\n")
        tmp_path.joinpath(name).chmod(0o755)
    monkeypatch.setattr(sass, "_tool", lambda name: str(tmp_path / name))
    assert sass.measure(tmp_path / "any.so") == {"compiler": {"nvcc": {"versions": []}}}


def test_without_a_disassembler_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(sass.sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(sass.ToolError, match=r"cuobjdump is not there: pip install 'fastconv\[test\]'"):
        sass.measure(tmp_path / "any.so")


# ---- memory traffic under the emulator


def test_memory_traffic_is_no_worse_than_committed():
    require("trace")
    assert trace.problems(files.load("trace"), trace.measure()) == []


TRAFFIC = {
    "launches": 1, "sectors": 110, "sectors_minimum": 100, "distinct_bytes": 2300, "wavefronts": 50,
    "wavefronts_minimum": 50, "load_words": 10,
}  # fmt: skip
CALL = {"distinct_bytes": 2300, "least_bytes": 2000}


def traffic_problems(row=None, committed=None, call=CALL, **changes):
    rows = [Row("copy", None, None, **(row or {}))]
    measured = {"copy": {"k": {**TRAFFIC, **changes}, "call": call}}
    return trace.problems(measured if committed is None else committed, measured, rows)


def test_traffic_at_the_limits_passes():
    assert traffic_problems() == []


@pytest.mark.parametrize(
    ("row", "changes", "words"),
    [
        ({}, {"sectors": 111}, "k: sectors 111, 1.11 of the minimum 100; expected 1.10 at most"),
        ({}, {"wavefronts": 52}, "k: wavefronts 52, 1.04 of the minimum 50; expected 1.02 at most"),
        (
            {},
            {"call": {**CALL, "least_bytes": 1000}},
            "bytes moved 2300, 2.30 of the minimum 1000; expected 1.15 at most",
        ),
        ({"multiply_adds": 79}, {}, "7.90 multiply-adds a word of shared memory, expected 8 or more"),
    ],
)
def test_a_broken_rule_fails_even_where_it_is_committed(row, changes, words):
    assert traffic_problems(row, **changes) == [f"copy: {words}"]


def test_a_row_can_have_limits_of_its_own():
    assert traffic_problems({"sectors": 2.0, "conflicts": 1.5}, sectors=200, wavefronts=75) == []
    assert traffic_problems({"bytes": None}, call={**CALL, "least_bytes": 1}) == []


def test_traffic_above_the_committed_fails_and_new_or_removed_rows_name_the_command():
    known = {"copy": {"k": {**TRAFFIC, "sectors": 105}, "old": TRAFFIC}, "gone": {}}
    assert traffic_problems(committed=known) == [
        "copy, k: sectors rose from 105 to 110",
        "copy, call: has no committed numbers; python -m bench gates --update writes them",
        "copy, old: is committed and no longer there; python -m bench gates --update removes it",
        "gone: is committed and no longer there; python -m bench gates --update removes it",
    ]


def test_what_a_transposition_moves_is_counted():
    require("trace")
    before = os.environ.get("FASTCONV_EMULATED")
    layouts = {row.name: row for row in trace.all_rows() if row.name.startswith("layout")}
    row = layouts["layout first to last float32"]
    numbers = trace.measure([row])[row.name]
    (kernel,) = set(numbers) - {"call"}
    nbytes = 2 * 64 * 16 * 16 * 4
    assert numbers["call"] == {"distinct_bytes": 2 * nbytes, "least_bytes": 2 * nbytes}
    assert numbers[kernel]["sectors"] == 2 * nbytes / 32
    assert os.environ.get("FASTCONV_EMULATED") == before


# ---- the files and the command


def test_a_file_has_one_line_an_entry_and_reads_back():
    content = {"b": {"y": {"n": 1}, "x": {"n": 2}}, "a": {"z": {"n": 3}}}
    text = files.written(content)
    assert json.loads(text) == content
    assert [line.strip() for line in text.splitlines() if '"n"' in line] == [
        '"z": {"n": 3}',
        '"x": {"n": 2},',
        '"y": {"n": 1}',
    ]


def options(**given):
    return type("Options", (), {"sass": False, "trace": False, "update": False, **given})


def test_the_command_writes_and_compares(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    monkeypatch.setitem(command._MEASURES, "sass", lambda: ({"sm_80": {"k": KERNEL}}, None))
    assert command.gates(options(sass=True)) == 1
    assert "has no committed numbers" in capsys.readouterr().out
    assert command.gates(options(sass=True, update=True)) == 0
    assert command.gates(options(sass=True)) == 0
    assert files.load("sass") == {"sm_80": {"k": KERNEL}}


def test_the_command_says_what_is_lacking(monkeypatch, capsys):
    monkeypatch.setitem(command._MEASURES, "sass", lambda: (None, "no extension"))
    assert command.gates(options(sass=True)) == 2
    assert "sass: no extension" in capsys.readouterr().out
