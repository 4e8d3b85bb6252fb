"""The gates that need no GPU: kernels against the committed numbers of bench/gates, and the gates' own logic."""

import json

import pytest

from bench.gates import command, files, sass

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
    assert sass.measure(tmp_path / "any.so") == {"sm_80": {"k<float>": {**usage, **counts}}}


def test_without_a_disassembler_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(sass.sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(sass.ToolError, match=r"cuobjdump is not there: pip install 'fastconv\[test\]'"):
        sass.measure(tmp_path / "any.so")


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
