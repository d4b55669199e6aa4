"""What every test file shares: where outside data lie, and one line per validated number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


def shared(path: str) -> Path:
    """Path of a reference file beside the checkout; skips the test where it is absent."""
    found = ROOT.parent / "shared" / path
    if not found.exists():
        pytest.skip(f"reference material ../shared/{path} is not on this machine")
    return found


def report(name: str, expected: float, got: float, *, rtol: float = 0.0, atol: float = 0.0) -> None:
    """Print expected, got and tolerance of one number, then assert it."""
    difference = abs(got - expected)
    allowed = atol + rtol * abs(expected)
    relative = difference / abs(expected) if expected else float("nan")
    tolerance = " + ".join(t for t in (f"rtol {rtol:g}" if rtol else "", f"atol {atol:g}" if atol else "") if t)
    print(f"{name}: expected {expected:.10g}, got {got:.10g}, tolerance {tolerance}, relative error {relative:.2e}")
    assert np.isfinite(got), f"{name}: got {got}"
    assert difference <= allowed, f"{name}: expected {expected:.10g}, got {got:.10g}, tolerance {tolerance}"
