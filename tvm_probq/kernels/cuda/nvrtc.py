"""NVIDIA's run-time compiler, a library without headers: device code on a machine without nvcc."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

from tvm_probq.errors import KernelError

NAMES = ("libnvrtc.so.13", "libnvrtc.so.12")
PACKAGES = ("nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib")  # where pip puts it
INSTALL = "pip install nvidia-cuda-nvrtc"
# Rounding as by nvcc; TVM's own call of NVRTC adds `--use_fast_math`, which rounds otherwise.
FLAGS = ("-std=c++17", "--fmad=false", "-default-device")
# What TVM's generated code includes of the toolkit's headers, and uses of them.
_SIZES = {8: "char", 16: "short", 32: "int", 64: "long long"}
_INTEGERS = "\n".join(
    f"typedef {sign} {kind} {letter}int{bits}_t;"
    for bits, kind in _SIZES.items()
    for sign, letter in (("signed", ""), ("unsigned", "u"))
)
_WHOLE = ["bool", "char", "long", "unsigned long"]
_WHOLE += [f"{sign} {kind}" for kind in _SIZES.values() for sign in ("signed", "unsigned")]
_TRAITS = "\n".join(
    [
        "template <bool V> struct truth { static constexpr bool value = V; };",
        "template <class A, class B> struct is_same : truth<false> {};",
        "template <class A> struct is_same<A, A> : truth<true> {};",
        "template <class A, class B> inline constexpr bool is_same_v = is_same<A, B>::value;",
        "template <class T> struct is_integral : truth<false> {};",
        *(f"template <> struct is_integral<{kind}> : truth<true> {{}};" for kind in _WHOLE),
        "template <class T> struct is_floating_point : truth<false> {};",
        "template <> struct is_floating_point<float> : truth<true> {};",
        "template <> struct is_floating_point<double> : truth<true> {};",
        "template <class T> struct is_signed : truth<(T(-1) < T(0))> {};",
        "template <class T> struct is_unsigned : truth<(T(-1) > T(0))> {};",
        "template <bool C, class T = void> struct enable_if {};",
        "template <class T> struct enable_if<true, T> { typedef T type; };",
        "template <bool C, class A, class B> struct conditional { typedef A type; };",
        "template <class A, class B> struct conditional<false, A, B> { typedef B type; };",
    ]
)
HEADERS = {
    f"cuda/std/{name}": f"#pragma once\nnamespace cuda {{ namespace std {{\n{text}\n}} }}\n"
    for name, text in (("cstdint", _INTEGERS), ("type_traits", _TRAITS))
} | {
    "math_constants.h": "#define CUDART_INF_F __int_as_float(0x7f800000)\n"
    "#define CUDART_NAN_F __int_as_float(0x7fffffff)\n"
    "#define CUDART_INF __longlong_as_double(0x7ff0000000000000ll)\n"
}


def find_nvrtc() -> str:
    """The library's name, or its path among installed packages; empty without one."""
    for name in NAMES:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return name
    places = [Path(entry) / package for entry in sys.path if entry for package in PACKAGES]
    return next((str(p / n) for p in places for n in NAMES if (p / n).is_file()), "")


def compile_cubin(source: str, arch: str) -> bytes:
    """Compile CUDA C++.

    Parameters
    ----------
    source : str
        The program; of headers it may include those of `HEADERS`.
    arch : str
        Such as ``sm_80``.

    Returns
    -------
    bytes
        Code of that architecture.

    Raises
    ------
    KernelError
        Without NVRTC, or with its words, if it fails.
    """
    path = find_nvrtc()
    if not path:
        raise KernelError(
            "there is no run-time compiler for CUDA", where=arch,
            why=f"{NAMES[0]} is neither installed nor among Python's packages", fix=INSTALL,
        )  # fmt: skip
    try:
        library = _loaded(path)
    except OSError as error:
        raise KernelError(
            "the run-time compiler for CUDA cannot be loaded", where=path, why=str(error),
            fix=INSTALL,
        ) from error  # fmt: skip
    program = ctypes.c_void_p()
    try:
        return _compiled(library, program, source, arch)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _loaded(path: str) -> ctypes.CDLL:
    """The library, behind its builtin functions: it would look for those on the loader's path."""
    if Path(path).is_absolute():
        for builtins in sorted(Path(path).parent.glob("libnvrtc-builtins.so.*")):
            ctypes.CDLL(str(builtins))
    return ctypes.CDLL(path)


def _compiled(
    library: ctypes.CDLL, program: ctypes.c_void_p, source: str, arch: str
) -> bytes:  # fmt: skip
    contents, names = _texts(tuple(HEADERS.values())), _texts(tuple(HEADERS))
    given = ctypes.byref(program), source.encode(), b"kernels.cu", len(HEADERS), contents, names
    _check(library.nvrtcCreateProgram(*given), "it refuses the program")
    flags = (*FLAGS, f"--gpu-architecture={arch}")
    if library.nvrtcCompileProgram(program, len(flags), _texts(flags)):
        said = _read(library, program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
        lines = [line for line in said.splitlines() if "error" in line]
        raise KernelError(
            "NVRTC cannot compile the device code", where=arch,
            why=" ".join((lines or [said.strip()])[:3]),
            fix=f"use CUDA 12 or 13, which know the architecture ({INSTALL})",
        )  # fmt: skip
    return _read(library, program, "CUBIN")


def _read(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    """A text or an image that the library holds."""
    size = ctypes.c_size_t()
    status = getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    _check(status, f"it has no {what}")
    found = ctypes.create_string_buffer(size.value)
    _check(getattr(library, f"nvrtcGet{what}")(program, found), f"it has no {what}")
    return found.raw


def _texts(values: tuple[str, ...]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * len(values))(*(value.encode() for value in values))


def _check(status: int, why: str) -> None:
    if status:
        raise KernelError(
            "NVRTC fails", why=f"{why} (error {status})", fix=f"install it again: {INSTALL}"
        )
