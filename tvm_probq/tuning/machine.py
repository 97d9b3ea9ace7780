"""The name of this machine's processor, for what was measured on it."""

from __future__ import annotations

import platform

from tvm_probq.target.host import CPU_INFO

NUMBERS = {"cpu family": "family", "model": "model"}


def machine_name() -> str:
    """Name the processor, with family and model, which virtual machines do not hide."""
    try:
        text = CPU_INFO.read_text(encoding="utf-8")
    except OSError:
        text = ""
    return parse_machine_name(text) or platform.processor() or platform.machine()


def parse_machine_name(text: str) -> str:
    """Read the first processor of ``/proc/cpuinfo``; empty where it has no name."""
    facts: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    if not facts.get("model name"):
        return ""
    numbers = [f"{name} {facts[key]}" for key, name in NUMBERS.items() if facts.get(key)]
    return ", ".join([facts["model name"], *numbers])
