"""Every symbol in a model file has one meaning: the glossary's, or the one the file gives itself."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pkmodel.units import dimension, same_dimension
from support import ROOT

MODELS = sorted((ROOT / "models").rglob("*.toml"))
ROW = re.compile(r"^\| `([^`]+)` \| (.+?) \| `([^`]+)` \|$", re.MULTILINE)


def _rows() -> list[tuple[str, str, str]]:
    return ROW.findall((ROOT / "models" / "GLOSSARY.md").read_text(encoding="utf-8"))


def _parameters(table: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of every ``[parameters]`` and ``[derived]`` table of a file, however deep it lies."""
    for key, value in table.items():
        if key == "check":  # its parameters are values for a test
            continue
        if key in ("parameters", "derived") and isinstance(value, dict):
            for name, row in value.items():
                # the short form is text, "0.30 L/h"
                yield name, row if isinstance(row, dict) else {"unit": str(row).partition(" ")[2]}
        elif isinstance(value, dict):
            yield from _parameters(value)
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, dict):
                    yield from _parameters(item)


def test_every_line_of_the_glossary_is_a_row() -> None:
    text = (ROOT / "models" / "GLOSSARY.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(lines) == len(_rows()) > 50


def test_each_symbol_has_one_row() -> None:
    symbols = [symbol for symbol, _, _ in _rows()]
    assert len(symbols) == len(set(symbols)), sorted({s for s in symbols if symbols.count(s) > 1})


@pytest.mark.parametrize(("symbol", "meaning", "unit"), _rows(), ids=lambda text: text[:20])
def test_each_unit_is_one_that_pkmodel_reads(symbol: str, meaning: str, unit: str) -> None:
    assert meaning.strip()
    dimension(unit, who=f"GLOSSARY.md, {symbol}")


@pytest.mark.parametrize("path", MODELS, ids=lambda p: str(p.relative_to(ROOT / "models")))
def test_every_parameter_is_explained(path: Path) -> None:
    units = {symbol: unit for symbol, _, unit in _rows()}
    wrong = []
    for name, row in _parameters(tomllib.loads(path.read_text(encoding="utf-8"))):
        if row.get("meaning", "").strip():
            continue
        if name not in units:
            wrong.append(f"{name} is not in models/GLOSSARY.md and has no meaning of its own")
        elif not same_dimension(units[name], row.get("unit", "1")):
            wrong.append(f"{name} is in {row.get('unit')}, the glossary has {units[name]}; give it its own meaning")
    assert not wrong, f"{path.name}: " + "; ".join(wrong)
