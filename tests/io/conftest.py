"""What every test of the I/O gets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
pytest.register_assert_rewrite("io_support", "tls_support")

TIMEOUT = 100  # a little more than what io_support allows


@pytest.fixture
def loop(loop: Any) -> Any:
    """As everywhere, and no number is taken in the midst of the test."""
    return _opened(loop)


@pytest.fixture
def fast_loop(fast_loop: Any) -> Any:
    """As everywhere, and no number is taken in the midst of the test."""
    return _opened(fast_loop)


def _opened(loop: Any) -> Any:
    from io_support import opened

    return opened(loop)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that hangs does not hold up the others for long."""
    here = Path(__file__).resolve().parent
    for item in items:
        if here in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(TIMEOUT))
