"""Expected standard errors of the warfarin study that the design programs were compared on.

Nyberg et al. 2015, Br J Clin Pharmacol 79:6, doi:10.1111/bcp.12352: oral one-compartment model, CL 0.15, V 8, KA 1,
omega2 0.07, 0.02, 0.6, one dose of 70, eight samples of 32 subjects. The numbers are those that PopED 0.7 prints in its
reference of `evaluate.fim` and asserts in ``test_evaluate.fim.R`` for these designs.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from pkmodel.errors import SimulationError
from pkmodel.model import Model
from pkmodel.model_file import model_from_toml
from pkmodel.sampling_design import ScanNoise, design, sampling_adequacy
from pkmodel.sampling_design.population import PopulationInformation
from pkmodel.sampling_design.result import Design
from support import report

TIMES = [0.5, 1, 2, 6, 24, 36, 72, 120]
OMEGA2 = {"CL": 0.07, "V": 0.02, "KA": 0.6}
SPREAD = {n: math.sqrt(math.expm1(w)) for n, w in OMEGA2.items()}
PROPORTIONAL = ScanNoise(proportional=0.1)
COMBINED = ScanNoise(proportional=0.1, additive=0.5)


@pytest.fixture(scope="module")
def warfarin() -> Model:
    return model_from_toml("""
name = "warfarin"
title = "One compartment, first-order absorption"
[parameters]
CL = { value = 0.15, unit = "L/h", lower = 0 }
V  = { value = 8, unit = "L", lower = 0 }
KA = { value = 1, unit = "1/h", lower = 0 }
[compartments]
depot   = "nmol"
central = "nmol"
[administration]
oral = "depot"
[[flows]]
from = "depot"
to   = "central"
rate = "KA*depot"
[[flows]]
from = "central"
rate = "CL/V*central"
[observables]
plasma = { formula = "central/V", unit = "nmol/L" }
""")


def _study(model: Model, noise: ScanNoise, expression: str, times: list[float] = TIMES) -> PopulationInformation:
    got = sampling_adequacy(
        model, "70 nmol once", times, organs="plasma", spread=SPREAD, noise=noise, subjects=32, criterion="D",
        expression=expression,
    )  # fmt: skip
    assert got.population is not None
    return got.population


@pytest.mark.parametrize(
    ("expression", "expected"),
    [("block", [4.7, 2.8, 13.9, 25.6, 30.3, 25.8, 11.2]), ("full", [3.6, 2.6, 4.8, 26.3, 30.9, 26.5, 12.4])],
)
def test_relative_standard_errors_with_a_proportional_error(
    warfarin: Model, expression: str, expected: list[float]
) -> None:
    """PopED prints one decimal: 13.9 means 13.85 to 13.95."""
    got = _study(warfarin, PROPORTIONAL, expression)
    for name, published, se in zip(got.names, expected, 100 * got.relative_se, strict=True):
        report(f"{expression}, RSE of {name} [%]", published, se, atol=0.05)


def test_relative_standard_errors_with_a_combined_error(warfarin: Model) -> None:
    got = _study(warfarin, COMBINED, "block")
    expected = [5.096246, 3.031164, 14.260384, 29.761226, 36.681388, 26.748640, 32.011719, 25.637971]
    for name, published, se in zip(got.names, expected, 100 * got.relative_se, strict=True):
        report(f"RSE of {name} [%]", published, se, rtol=1e-6)
    # in PopED's scale: typical values as they are, variances as they are
    scale = np.concatenate([got.value[:3], np.ones(5)])
    matrix = got.matrix / np.outer(scale, scale)
    report("det of the information", 1.143859e24, float(np.linalg.det(matrix)), rtol=1e-6)
    for (a, b), published in {(0, 0): 17141.83891, (0, 1): 20.838375, (1, 2): -3.423641, (3, 6): 726.84097,
                              (6, 6): 192840.20092, (6, 7): 6659.569867, (5, 5): 38.85137516}.items():  # fmt: skip
        report(f"information {got.names[a]}, {got.names[b]}", published, float(matrix[a, b]), rtol=1e-6)


def test_drawn_random_effects_change_little_where_the_model_is_mild(warfarin: Model) -> None:
    """ "foce" averages over random effects; Nyberg et al. found FO with block-diagonal close to simulations here."""
    block, foce = _study(warfarin, PROPORTIONAL, "block"), _study(warfarin, PROPORTIONAL, "foce")
    for name, a, b in zip(block.names, block.relative_se, foce.relative_se, strict=True):
        report(f"foce against block, {name}", a, b, rtol=0.05)


def _best(model: Model, method: str) -> Design:
    return design(
        model, "70 nmol once", scans=4, times=[0.5, 1, 2, 3, 6, 12, 24, 48, 96], organs="plasma", spread=SPREAD,
        noise=COMBINED, subjects=32, criterion="D", method=method,
    )  # fmt: skip


def test_a_population_design_is_the_best_of_all_combinations(warfarin: Model) -> None:
    """Brute force: every combination of the grid judged by a call of its own."""
    from itertools import combinations

    found = _best(warfarin, "exact")
    swapped = _best(warfarin, "exchange")
    np.testing.assert_array_equal(found.start, swapped.start)
    rng = np.random.default_rng(0)
    every = list(combinations([0.5, 1, 2, 3, 6, 12, 24, 48, 96], 4))
    tried = [every[i] for i in rng.choice(len(every), 12, replace=False)]
    for times in tried:
        got = _study(warfarin, COMBINED, "block", list(times))
        scale = np.where(got.relative, 1.0, got.value)
        value = np.exp(-0.5 * np.linalg.slogdet(got.matrix * np.outer(scale, scale))[1] / len(scale))
        assert found.value <= value * (1 + 1e-9), times


def test_a_study_that_determines_too_little_names_the_parameters(warfarin: Model) -> None:
    got = sampling_adequacy(
        warfarin, "70 nmol once", [1.0], organs="plasma", spread=SPREAD, noise=COMBINED, subjects=32, criterion="D"
    )
    assert math.isinf(got.value) and "does not determine" in got.warnings[-1] and "omega2(CL)" in got.warnings[-1]
    with pytest.raises(SimulationError, match="singular"):
        design(
            warfarin, "70 nmol once", scans=1, times=[1, 2], organs="plasma", spread=SPREAD, noise=COMBINED,
            subjects=32, criterion="D",
        )  # fmt: skip
