"""Covariate search and comparison of population fits against normal theory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from line_population import fitted, lines, lowest
from scipy.stats import chi2
from synthetic import Array

from pkmodel.data import Curves
from pkmodel.errors import FitError
from pkmodel.inference.population import minimise as search
from pkmodel.inference.population.diagnosis import covariate_search
from pkmodel.inference.population.diagnosis.candidates import candidates_of
from pkmodel.inference.population.diagnosis.comparison import compare_populations
from pkmodel.inference.population.diagnosis.covariate_search import search_covariates
from pkmodel.inference.population.effects import Effects, relation
from pkmodel.inference.population.minimise import Minimum
from pkmodel.inference.population.result import PopulationFit
from support import report


@pytest.fixture(scope="module")
def data() -> tuple[list[Curves], Array, dict[str, Array]]:
    return lines()


@pytest.fixture(scope="module")
def fit(data: tuple[list[Curves], Array, dict[str, Array]]) -> PopulationFit:
    return fitted(data[0], standard_errors="r")


def changes(y: Array, known: Mapping[str, Array]) -> dict[str, float]:
    """Fall of -2 log L for each covariate alone, by normal theory."""
    base = lowest(y)
    return {n: lowest(y, (x - np.median(x))[:, None]) - base for n, x in known.items()}


def test_covariate_search_against_normal_theory(data: Any, fit: PopulationFit, tmp_path: Path) -> None:
    candidates = [
        relation("level", "age", "exponential", reference=50),
        relation("level", "height", "exponential", reference=170),
        relation("level", "sex", "category", level="m"),
    ]  # fmt: skip
    log = tmp_path / "search.jsonl"
    found = search_covariates(fit, candidates, log=log)
    assert found.chosen == ("age on level (exponential)",)
    first = found.table[found.table["step"] == 1].set_index("candidate")["change"]
    for (name, want), got in zip(changes(data[1], data[2]).items(), first, strict=True):
        report(f"change by {name}", want, float(got), atol=2e-3)
    both = lowest(data[1], np.column_stack([data[2]["age"] - 50, data[2]["height"] - 170]))
    second = found.table[found.table["step"] == 2].iloc[0]
    report("age and height", both - math.log(2 * math.pi) * 70, float(second["objective"]), atol=2e-3)
    assert list(found.table["direction"])[-1] == "backward" and not found.table["chosen"].iloc[-1]
    assert found.fit.information is not None and "age on level" in found.fit.table.index
    written = log.read_text().splitlines()
    assert len(written) == 6  # base, three, two; backward meets the base again
    log.write_text("\n".join([*written, written[-1][:40]]))  # a line that was cut short
    again = search_covariates(fit, candidates, log=log)
    assert log.read_text().splitlines() == written and again.table.equals(found.table)
    by_bic = search_covariates(fit, candidates, forward="bic", log=log)
    assert by_bic.chosen == found.chosen and len(log.read_text().splitlines()) == 6
    assert "optimistic" in str(found) and "<table" in found._repr_html_()


def test_an_interrupted_search_goes_on(fit: PopulationFit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = candidates_of(fit, ["level"], ["age", "sex"], kinds=["exponential"])
    assert [c.name for c in candidates] == ["age on level (exponential)", "sex on level (category)"]
    log, calls, real = tmp_path / "search.jsonl", 0, search.minimise

    def stops(*args: Any, **settings: Any) -> Minimum:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return real(*args, **settings)

    monkeypatch.setattr(covariate_search, "minimise", stops)
    first = search_covariates(fit, candidates, log=log)
    assert first.interrupted and len(log.read_text().splitlines()) == 2 and any("log=" in n for n in first.notes)
    second = search_covariates(fit, candidates, log=log)
    assert not second.interrupted and second.chosen == ("age on level (exponential)",)


def test_a_search_that_cannot_be_is_refused(fit: PopulationFit, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("no log\nat all\n")
    for settings, match in (
        ({"forward": 2.0}, "criterion 2.0"), ({"candidates": [relation("levle", "age", "exponential")]}, "levle"),
        ({"candidates": [relation("level", "agee", "exponential")]}, "agee"), ({"candidates": []}, "no candidate"),
        ({"log": tmp_path / "other.txt"}, "no log of a covariate search"), ({"log": tmp_path}, "name of a file"),
        ({"candidates": [relation("level", "age", "exponential", coefficient=1, fixed=True)]}, "fixed"),
    ):  # fmt: skip
        with pytest.raises(FitError, match=match):
            search_covariates(fit, **settings)
    with pytest.raises(FitError, match="did you mean"):
        candidates_of(fit, ["levle"])
    with pytest.raises(FitError, match="usable: age, height, sex"):
        candidates_of(fit, None, ["weight"])


def test_comparison_against_normal_theory(data: Any, fit: PopulationFit) -> None:
    age = relation("level", "age", "exponential", reference=50)
    more = fitted(data[0], effects=Effects(between={"level": 0.4, "share": 0.4}, covariates=(age,)))
    got = compare_populations({"base": fit, "with age": more})
    fall = changes(data[1], {"age": data[2]["age"]})["age"]
    report("change", fall, float(got.table["change"][1]), atol=2e-3)
    report("p", float(chi2.sf(-fall, 1)), float(got.table["p"][1]), rtol=5e-3)
    report("BIC", lowest(data[1]) + 5 * math.log(70), float(got.table["BIC"][0]), atol=1e-3)
    assert got.best == "with age" and got.table["df"][1] == 1
    with pytest.raises(FitError, match="same values"):
        compare_populations([fit, fitted(lines(seed=6)[0])])
    with pytest.raises(FitError, match="at least two"):
        compare_populations([fit])
