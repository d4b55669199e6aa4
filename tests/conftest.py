"""Settings for the whole suite: no display, and property tests that give the same verdict twice."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("MPLBACKEND", "Agg")  # before anything imports matplotlib; children inherit it

# The first example may compile a kernel, so no deadline; derandomised, so a failure is never a matter of luck.
settings.register_profile("pkmodel", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pkmodel")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The wheel first: it takes minutes alone, and at the end the other processors would wait for it."""
    items.sort(key=lambda item: item.path.name != "test_packaging.py")
