"""Fixtures that several tests use."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of trained models and labelled data beside the checkout; skips without it."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not (folder / "cards").is_dir():
        pytest.skip("needs the trained models and data sets in ../shared/data")
    return folder
