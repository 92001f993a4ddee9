"""What every test of the I/O gets."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
pytest.register_assert_rewrite("io_support", "tls_support")

TIMEOUT = 100  # a little more than what io_support allows


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that hangs does not hold up the others for long."""
    here = Path(__file__).resolve().parent
    for item in items:
        if here in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(TIMEOUT))
