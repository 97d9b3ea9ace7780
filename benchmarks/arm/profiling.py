"""Where the instructions are: by function, by mnemonic, and the blocks that run most."""

from __future__ import annotations

import bisect
import functools
import re
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from .counting import Count

MNEMONICS = 24  # listed
TOOLS = "aarch64-linux-gnu-"
Key = TypeVar("Key")
LINE = re.compile(r"\s*([0-9a-f]+):\s+[0-9a-f]{8}\s+(.*)")


@dataclass(frozen=True)
class Place:
    """Where an address lies.

    Attributes
    ----------
    file, function : str
        Names; the function is ``?`` in a file without symbols.
    address : int
        In the file, as tools show it.
    offset : int
        In the function.
    """

    file: str
    function: str
    address: int
    offset: int


class Symbols:
    """The functions of a process, from its ``/proc/self/maps``."""

    def __init__(self, maps: str) -> None:
        self._regions = []
        for line in maps.splitlines():
            fields = line.split()
            if len(fields) == 6 and fields[5].startswith("/"):
                start, end = (int(text, 16) for text in fields[0].split("-"))
                self._regions.append((start, end, int(fields[2], 16), fields[5]))

    def place(self, address: int) -> Place:
        """Find an address."""
        for start, end, offset, path in self._regions:
            if start <= address < end:
                where = _virtual(path, address - start + offset)
                symbols = _functions(path)
                at = bisect.bisect_right(symbols, (where, "\uffff")) - 1
                begin, name = symbols[at] if at >= 0 else (0, "?")
                return Place(Path(path).name, name, where, where - begin)
        return Place("", "?", address, 0)


def by_function(count: Count, symbols: Symbols) -> dict[tuple[str, str], float]:
    """Instructions an inference by function and file."""
    found: dict[tuple[str, str], float] = defaultdict(float)
    for (address, words), runs in count.blocks.items():
        place = symbols.place(address)
        found[place.function, place.file] += runs * len(words)
    return found


def by_mnemonic(count: Count) -> dict[str, float]:
    """Instructions an inference by name, such as ``sdot``."""
    found: dict[str, float] = defaultdict(float)
    for (_, words), runs in count.blocks.items():
        for word in words:
            found[word] += runs
    names = disassemble(list(found))
    totals: dict[str, float] = defaultdict(float)
    for name, runs in zip(names, found.values(), strict=True):
        totals[name.split()[0]] += runs
    return totals


def basic_blocks(count: Count) -> list[tuple[int, tuple[str, ...], float]]:
    """Runs of instructions that are executed equally often: address, content, times.

    qemu's own blocks overlap where a jump goes into the middle of one.
    """
    runs: dict[int, float] = {}
    content: dict[int, str] = {}
    for (address, words), times in count.blocks.items():
        for at, word in enumerate(words):
            place = address + 4 * at
            runs[place] = runs.get(place, 0.0) + times
            content[place] = word
    blocks: list[tuple[int, list[str], float]] = []
    for place in sorted(runs):
        if blocks:
            start, words_, times = blocks[-1]
            if place == start + 4 * len(words_) and runs[place] == times:
                words_.append(content[place])
                continue
        blocks.append((place, [content[place]], runs[place]))
    return [(start, tuple(words_), times) for start, words_, times in blocks]


def most(amounts: Mapping[Key, float], number: int) -> list[tuple[Key, float]]:
    """The largest ones."""
    return sorted(amounts.items(), key=lambda item: -item[1])[:number]


def report(count: Count, functions: int, blocks: int) -> Iterator[str]:
    """Lines of text: functions, mnemonics and the blocks with most instructions."""
    symbols, total = Symbols(count.maps), count.instructions
    yield f"{total:,.0f} instructions an inference"
    for (name, file), amount in most(by_function(count, symbols), functions):
        yield f"{amount:14,.0f} {amount / total:7.2%}  {name}  {file}"
    names = most(by_mnemonic(count), MNEMONICS)
    yield "  ".join(f"{name} {amount:,.0f}" for name, amount in names)
    ranked = sorted(basic_blocks(count), key=lambda b: -len(b[1]) * b[2])
    for start, words, times in ranked[:blocks]:
        place = symbols.place(start)
        amount = len(words) * times
        yield (
            f"\n{place.function}+{place.offset:#x} in {place.file}: {len(words)} instructions "
            f"{times:,.0f} times, {amount:,.0f}, {amount / total:.2%}"
        )
        yield from (f"    {line}" for line in disassemble(words, place.address))


def disassemble(words: Sequence[str], address: int = 0) -> list[str]:
    """The text of instructions, one a line."""
    if not words:
        return []
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"".join(int(word, 16).to_bytes(4, "little") for word in words))
        file.flush()
        options = ["-D", "-z", "-b", "binary", "-m", "aarch64", f"--adjust-vma={address:#x}"]
        text = _run("objdump", *options, file.name)
    found = [match[2] for match in map(LINE.match, text.splitlines()) if match]
    return [" ".join(line.split()) for line in found]


@functools.cache
def _functions(path: str) -> list[tuple[int, str]]:
    """Start and name of each function; the dynamic ones in a file that is stripped."""
    for options in (("-C", "--defined-only"), ("-C", "-D", "--defined-only")):
        fields = (line.split(maxsplit=2) for line in _run("nm", *options, path).splitlines())
        found = sorted(
            (int(f[0], 16), f[2]) for f in fields if len(f) == 3 and f[1].lower() in "tw"
        )
        if found:
            return found
    return []


@functools.cache
def _segments(path: str) -> list[tuple[int, int, int]]:
    fields = (line.split() for line in _run("readelf", "-lW", path).splitlines())
    return [(int(f[1], 16), int(f[2], 16), int(f[4], 16)) for f in fields if f and f[0] == "LOAD"]


def _virtual(path: str, offset: int) -> int:
    """The address in a file's own terms of a byte of it."""
    for start, address, length in _segments(path):
        if start <= offset < start + length:
            return offset - start + address
    return offset


def _run(tool: str, *arguments: str) -> str:
    done = subprocess.run([TOOLS + tool, *arguments], capture_output=True, text=True, check=False)
    return done.stdout
