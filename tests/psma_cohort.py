"""Virtual patients of the published PSMA-617 population, scanned with a stated noise, and their true TIA.

Siebinga et al. 2023, doi:10.1002/psp4.12914, Table 2: values and spreads as in the library's model, 43.5 % between
cycles for the uptake rate of the tumour. Residual errors of the same table: kidneys 30.4 %, liver 85 %, salivary glands
24.6 %, tumour 45.8 %.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cache

import numpy as np
import pandas as pd

import pkmodel as pk
from pkmodel.data import Curves

REGIONS = ("kidneys", "liver", "salivary_glands", "tumour")
PUBLISHED = {"kidneys": 0.304, "liver": 0.85, "salivary_glands": 0.246, "tumour": 0.458}
OCCASION = {"k15_typical": 0.435}
TIMES = (24.0, 48.0, 72.0, 96.0, 168.0)
GIVEN = 6000.0  # MBq


@cache
def model() -> pk.Model:
    """Labelled so that decayed ligand keeps its place in the gland, as published."""
    return pk.label(pk.load_model("psma617_siebinga2023"), "Lu-177", cold=True)


def population(noise: float | dict[str, float]) -> pk.PopulationModel:
    """The published population with a residual error."""
    each = dict.fromkeys(REGIONS, noise) if isinstance(noise, float) else noise
    return pk.PopulationModel.from_model(model(), noise=each, occasion=OCCASION, subjects=10)


def patients(
    n: int, noise: float | dict[str, float], *, seed: int = 1, times: Sequence[float] = TIMES
) -> tuple[list[Curves], pd.DataFrame]:
    """Scans of n patients, one cycle each, and their true TIA [MBq h]; values that noise makes negative left out."""
    table = pk.cohort(model(), n, seed=seed)
    rng = np.random.default_rng([seed, 99])
    for name, cv in OCCASION.items():
        table[name] *= np.exp(np.sqrt(np.log1p(cv**2)) * rng.standard_normal(n))
    return pk.virtual_scans(model(), f"{GIVEN:g} MBq", table, times, regions=REGIONS, noise=noise, seed=rng)


def entry(table: pd.DataFrame, row: Hashable, column: str) -> float:
    """One number of a table."""
    return float(table[column].to_numpy(dtype=float)[table.index.get_loc(row)])
