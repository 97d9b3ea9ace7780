"""Target profiles: shipped, of a file, and of an installed package."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tvm_probq.errors import TargetError
from tvm_probq.target import profile as profiles
from tvm_probq.target.cuda import device_problem
from tvm_probq.target.profile import TargetProfile, host_profile, load_profile, profile_names

X86 = ("x86-64", "x86-amx", "x86-avx-vnni", "x86-avx2", "x86-avx512", "x86-vnni")
ARM = ("arm-a53", "arm-a72", "arm-a76", "arm-n1", "arm-v1")
TEXT = """\
description = "mine"
instruction = ""
features = ["sse2"]
weight_bits = [8]
activation_bits = [8]

[tvm_target]
kind = "llvm"
mcpu = "x86-64"
mtriple = "x86_64-unknown-linux-gnu"
"""

MakeProfile = Callable[[str], Path]


@pytest.fixture
def make_profile(tmp_path: Path) -> MakeProfile:
    """Write a profile of a given text."""

    def make(text: str) -> Path:
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return make


def declare(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Pretend that an installed package adds the profile ``theirs``."""
    entry = metadata.EntryPoint("theirs", value, profiles.ENTRY_POINTS)
    monkeypatch.setattr(profiles, "_entries", lambda: (entry,))


CUDA = {
    "cuda-sm75": "sm_75", "cuda-sm80": "sm_80", "cuda-sm86": "sm_86", "cuda-orin": "sm_87",
    "cuda-sm89": "sm_89", "cuda-sm90": "sm_90",
}  # fmt: skip


@pytest.mark.parametrize("name", CUDA)
def test_a_cuda_profile_has_a_device_and_a_host(name: str) -> None:
    profile = load_profile(name)
    target = profile.target()
    assert str(target.attrs["arch"]) == CUDA[name]
    assert target.host is not None
    assert profile.is_cuda
    assert profile.architecture == ("aarch64" if name == "cuda-orin" else "x86_64")
    assert set(profile.roofline) == {"int8_gmacs", "memory_gbps", "launch_us"}
    assert not profile.runs_here or not device_problem()


@pytest.mark.parametrize("name", X86 + ARM)
def test_a_shipped_profile_makes_a_target_with_what_it_promises(name: str) -> None:
    from tvm.target.codegen import target_has_features

    profile = load_profile(name)
    target = profile.target()
    assert profile.name == name
    assert profile.description
    assert profile.architecture == ("aarch64" if name in ARM else "x86_64")
    assert str(target.attrs["mcpu"]) == profile.tvm_target["mcpu"]
    assert all(target_has_features(feature, target) for feature in profile.features)


def test_the_names_are_those_of_the_files() -> None:
    assert {*X86, *ARM, *CUDA} <= set(profile_names())


def test_an_unknown_name_lists_what_exists() -> None:
    with pytest.raises(TargetError, match=r"no target profile 'arm'.*use one of arm-a53, arm-a72"):
        load_profile("arm")


def test_the_host_gets_the_best_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "host_architecture", lambda: "x86_64")
    for name in X86:
        has = set(load_profile(name).features) | {"sse2"}
        monkeypatch.setattr(
            profiles, "missing_features", lambda needs, has=has: tuple(set(needs) - has)
        )
        assert host_profile().name == name


def test_a_foreign_host_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "host_architecture", lambda: "riscv64")
    with pytest.raises(TargetError, match=r"no shipped target profile fits .*riscv64"):
        host_profile()


def test_a_file_is_loaded_by_its_path(make_profile: MakeProfile) -> None:
    profile = load_profile(make_profile(TEXT))
    assert (profile.name, profile.threads, profile.weight_bits) == ("mine", 0, (8,))


def test_threads_become_the_targets_cores(make_profile: MakeProfile) -> None:
    target = load_profile(make_profile("threads = 3\n" + TEXT)).target()
    assert int(target.attrs["num-cores"]) == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('description = "mine"', "", "key 'description' is missing"),
        ("weight_bits", "weights_bits", "key 'weights_bits' is unknown.*use only"),
        ("[8]", '["8"]', "key 'weight_bits' holds '8'.*type int"),
        ("weight_bits = [8]", "weight_bits = []", "key 'weight_bits' holds .*from 1 to 8"),
        ("weight_bits = [8]", "weight_bits = [16]", "key 'weight_bits' holds .*from 1 to 8"),
        ("instruction", 'storages = ["words"]\ninstruction', "'storages' holds .*bytes, packed"),
        ("instruction", "weight_groups = [48]\ninstruction", "'weight_groups' holds .48.*32, 64"),
        ('["sse2"]', '"sse2"', "key 'features' holds 'sse2'.*type list"),
        ('"mine"', "1", "key 'description' holds 1.*type str"),
        ("instruction", "threads = true\ninstruction", "key 'threads' holds True"),
        ("[tvm_target]", "[tvm_target", "no valid TOML"),
    ],
)
def test_a_fault_in_a_file_is_explained(
    make_profile: MakeProfile, old: str, new: str, message: str
) -> None:
    path = make_profile(TEXT.replace(old, new, 1))
    with pytest.raises(TargetError, match=rf"mine\.toml: .*{message}"):
        load_profile(path)


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"cannot be read: No such file.*check the path"):
        load_profile(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'mcpu = "x86-64"',
            'mcpu = "zen99"',
            "LLVM knows no CPU 'zen99' for x86_64.*correct mcpu: znver",
        ),
        (
            'mcpu = "x86-64"',
            'mcpu = "x86-64"\nmattr = ["+avx3"]',
            r"LLVM knows no attribute '\+avx3' for x86_64",
        ),
        (
            'mcpu = "x86-64"',
            'mcpu = "x86-64"\nmattr = ["-avx3"]',
            "LLVM knows no attribute '-avx3' .*mattr",
        ),
        (
            'mcpu = "x86-64"',
            'mcpu = "x86-64"\nmattr = ["avx2"]',
            "LLVM knows no attribute 'avx2' for x86_64",
        ),
        (
            'mtriple = "x86_64',
            'mtriple = "x68_64',
            "LLVM knows no architecture 'x68_64'.*correct mtriple",
        ),
        ('kind = "llvm"', 'kind = "gpu9"', "TVM rejects the target.*gpu9"),
        ('kind = "llvm"', 'kind = "llvm"\nspeed = 1', "TVM rejects the target.*speed"),
        ('["sse2"]', '["sse-2"]', "the profile's feature 'sse-2' is none of its.*LLVM's x86-64"),
        ('["sse2"]', '["avx2"]', "the profile's feature 'avx2' is none .*correct features or mcpu"),
    ],
)
def test_a_bad_target_is_explained(
    make_profile: MakeProfile, old: str, new: str, message: str
) -> None:
    profile = load_profile(make_profile(TEXT.replace(old, new, 1)))
    with pytest.raises(TargetError, match=rf"target profile mine: {message}"):
        profile.target()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cortex-a76", "cortex-a67", "no CPU 'cortex-a67' for aarch64.*cortex-a76"),
        ('"dotprod"', '"dot-prod"', "feature 'dot-prod' is none of its.*LLVM's cortex-a76"),
        ('mcpu = "cortex-a76"', 'mcpu = "cortex-a76"\nmattr = ["+i8m"]', r"attribute '\+i8m'"),
    ],
)
def test_a_bad_arm_target_is_explained(
    make_profile: MakeProfile, repository: Path, old: str, new: str, message: str
) -> None:
    text = (repository / "targets" / "arm-a76.toml").read_text(encoding="utf-8")
    profile = load_profile(make_profile(text.replace(old, new, 1)))
    with pytest.raises(TargetError, match=rf"target profile mine: .*{message}"):
        profile.target()


def test_attributes_add_features(make_profile: MakeProfile, repository: Path) -> None:
    text = (repository / "targets" / "arm-a72.toml").read_text(encoding="utf-8")
    text = text.replace('["neon"]', '["neon", "dotprod"]')
    text = text.replace("mcpu =", 'mattr = ["+dotprod", "-crc"]\nmcpu =')
    assert load_profile(make_profile(text)).target().attrs["mcpu"] == "cortex-a72"


def test_an_arm_host_gets_the_best_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "host_architecture", lambda: "aarch64")
    for has, name in (
        ({"neon"}, "arm-a53"), ({"neon", "dotprod"}, "arm-a76"),
        ({"neon", "dotprod", "i8mm", "sve"}, "arm-v1"),
    ):  # fmt: skip
        monkeypatch.setattr(
            profiles, "missing_features", lambda needs, has=has: tuple(set(needs) - has)
        )
        assert host_profile().name == name


def test_one_architecture_has_several_names(make_profile: MakeProfile) -> None:
    profile = load_profile(make_profile(TEXT.replace("x86_64-unknown", "amd64-unknown")))
    assert profile.architecture == "x86_64"


def test_bits_without_kernels_are_refused(make_profile: MakeProfile) -> None:
    profile = load_profile(make_profile(TEXT))
    profile.require_bits(8, 8)
    with pytest.raises(TargetError, match=r"here: .*no kernels for weights of 4 bits.*one of 8"):
        profile.require_bits(4, 8, where="here")
    with pytest.raises(TargetError, match=r"activations of 4 bits"):
        profile.require_bits(8, 4)


def test_groups_that_a_target_has_no_kernels_for(make_profile: MakeProfile) -> None:
    profile = load_profile(make_profile("weight_groups = [64]\n" + TEXT))
    assert profile.weight_groups == (64,)
    profile.require_group(0)
    profile.require_group(64)
    with pytest.raises(TargetError, match=r"here.*groups of 32.*weight_group = 0, 64"):
        profile.require_group(32, where="here")
    assert load_profile("x86-vnni").weight_groups == (32, 64, 128)


def test_storage_that_a_target_has_no_kernels_for(make_profile: MakeProfile) -> None:
    profile = load_profile(make_profile(TEXT))
    profile.require_storage("bytes")
    with pytest.raises(TargetError, match=r"here.*storage = 'packed'.*one of bytes"):
        profile.require_storage("packed", where="here")
    load_profile("arm-a72").require_storage("packed")


def test_another_package_adds_a_profile_as_data(monkeypatch: pytest.MonkeyPatch) -> None:
    data: dict[str, Any] = {**tomllib.loads(TEXT), "features": ("sse2",)}
    monkeypatch.setattr(profiles, "_test_data", data, raising=False)
    declare(monkeypatch, f"{profiles.__name__}:_test_data")
    assert "theirs" in profile_names()
    expected = {**data, "name": "theirs", "weight_bits": (8,), "activation_bits": (8,)}
    assert load_profile("theirs") == TargetProfile(**expected)


def test_another_package_adds_a_profile_as_a_file(
    monkeypatch: pytest.MonkeyPatch, make_profile: MakeProfile
) -> None:
    monkeypatch.setattr(profiles, "_test_path", str(make_profile(TEXT)), raising=False)
    declare(monkeypatch, f"{profiles.__name__}:_test_path")
    profile = load_profile("theirs")
    assert (profile.name, profile.description) == ("theirs", "mine")


def test_the_example_of_an_installed_package(
    monkeypatch: pytest.MonkeyPatch, repository: Path, tmp_path: Path
) -> None:
    """The file of docs/targets.md, in a package that declares it as an entry point."""
    text = (repository / "docs" / "targets.md").read_text(encoding="utf-8")
    [example] = [block for block in text.split("```") if block.startswith("toml\n# apple-m1.toml")]
    (tmp_path / "apple-m1.toml").write_text(example.removeprefix("toml\n"), encoding="utf-8")
    (tmp_path / "apple_profiles.py").write_text(
        "from pathlib import Path\nM1 = Path(__file__).with_name('apple-m1.toml')\n"
    )
    (tmp_path / "apple_profiles-1.dist-info").mkdir()
    declared = "[tvm_probq.targets]\napple-m1 = apple_profiles:M1\n"
    (tmp_path / "apple_profiles-1.dist-info" / "entry_points.txt").write_text(declared)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "apple-m1" in profile_names()
    profile = load_profile("apple-m1")
    assert (profile.name, profile.architecture, profile.threads) == ("apple-m1", "aarch64", 4)
    assert profile.target().attrs["mcpu"] == "apple-m1"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_module:x", "cannot be loaded.*no_such_module"),
        ("tvm_probq.target.profile:no_such_name", "cannot be loaded.*no_such_name"),
        ("tvm_probq.target.profile:load_profile", "is a function, neither a path nor a dict"),
    ],
)
def test_a_broken_package_is_named(
    monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
    declare(monkeypatch, value)
    with pytest.raises(TargetError, match=rf"entry point theirs = .*{message}"):
        load_profile("theirs")
