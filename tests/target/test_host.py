"""Features of the processor, in LLVM's names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tvm_probq.target import host

CPU_INFO = """\
processor : 0
flags : fpu sse2 pni sse4_1 avx2 bmi1 bmi2 abm avx512_vnni

processor : 1
flags : other
"""


def test_the_kernels_names_become_llvms() -> None:
    expected = {"fpu", "sse2", "sse3", "sse4.1", "avx2", "bmi", "bmi2", "lzcnt", "avx512vnni"}
    assert host.parse_cpu_info(CPU_INFO) == expected


def test_arms_names_become_llvms() -> None:
    text = "processor : 0\nFeatures : fp asimd asimddp asimdhp atomics crc32 i8mm sve\n"
    expected = {"fp-armv8", "neon", "dotprod", "fullfp16", "lse", "crc", "i8mm", "sve"}
    assert host.parse_cpu_info(text) == expected


@pytest.mark.parametrize("allowed", [True, False])
def test_tiles_count_only_where_linux_gives_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, allowed: bool
) -> None:
    (tmp_path / "cpuinfo").write_text("flags : sse2 amx_tile amx_int8\n")
    monkeypatch.setattr(host, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(host, "tiles_allowed", lambda: allowed)
    tiles = {"amx-tile", "amx-int8"} if allowed else set()
    assert host.host_features.__wrapped__() == {"sse2"} | tiles


def test_a_file_without_flags_gives_nothing() -> None:
    assert host.parse_cpu_info("processor : 0\n") == frozenset()


def test_missing_features_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "host_features", lambda: frozenset({"avx2"}))
    assert host.missing_features(("fma", "avx2", "avx512f")) == ("fma", "avx512f")


def test_llvm_is_asked_where_the_kernel_says_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    known = host.host_features()
    monkeypatch.setattr(host, "CPU_INFO", tmp_path_factory.mktemp("proc") / "missing")
    by_name = host.host_features.__wrapped__()
    if host.host_architecture() == "x86_64":
        assert "sse2" in by_name & known
