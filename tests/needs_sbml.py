"""Skips the tests of a file that imports it where python-libsbml is not installed (extra ``sbml``)."""

from __future__ import annotations

from typing import Any

import pytest

libsbml: Any = pytest.importorskip("libsbml")
