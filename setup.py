"""Finds the packages; everything else is declared in pyproject.toml."""

from setuptools import find_packages, setup

MAPPED = {"tvm_probq.passes": "passes", "tvm_probq.targets": "targets"}


def packages() -> list[str]:
    """Give every package: those of ``tvm_probq/`` and those of the folders mapped into it."""
    found = find_packages(include=["tvm_probq", "tvm_probq.*"])
    for name, folder in MAPPED.items():
        found += [name, *(f"{name}.{inner}" for inner in find_packages(folder))]
    return found


setup(packages=packages())
