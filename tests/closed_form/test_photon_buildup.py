"""The shipped photon build-up comes out of scripts/photon_buildup.py, whose physics is right where it can be known."""

from __future__ import annotations

import csv
import importlib.util
import sys
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad

from support import ROOT, report

PHOTONS, BATCHES, SEED = 40_000, 40, 7  # another seed than the table's: the draws are independent
TABLE_PHOTONS = 800_000
ROUNDING = 5e-5  # the table has four decimals


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("photon_buildup", ROOT / "scripts" / "photon_buildup.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


script = _load()


@lru_cache
def simulated(energy: float) -> Any:
    return script.build_up(energy, PHOTONS, np.random.default_rng(SEED), batches=BATCHES)


def columns(name: str) -> dict[tuple[str, ...], float]:
    """A table with numbers in its first columns, as {all but the last: last}."""
    lines = (ROOT / "pkmodel" / "tables" / name).read_text(encoding="utf-8").splitlines()
    width = {"photon_buildup.csv": 3, "water_attenuation.csv": 2}[name]
    rows = list(csv.reader(line for line in lines if not line.startswith("#")))[1:]
    return {tuple(row[: width - 1]): float(row[width - 1]) for row in rows}


def closed_klein_nishina(energy: float) -> tuple[float, float]:
    """Cross section and its part transferred to the electron [cm2/g of water], integrated over angle by hand.

    Klein and Nishina 1929, doi:10.1007/BF01366453; both integrals as in Evans, The Atomic Nucleus, 1955, chapter 23.
    """
    a = energy / 0.51099895
    log, b = np.log1p(2.0 * a), 1.0 + 2.0 * a
    total = (1 + a) / a**2 * (2 * (1 + a) / b - log / a) + log / (2 * a) - (1 + 3 * a) / b**2
    photon = log / a**3 + 2 * (1 + a) * (2 * a**2 - 2 * a - 1) / (a**2 * b**2) + 8 * a**2 / (3 * b**3)
    scale = np.pi * 2.8179403262e-13**2 * 10.0 / 18.015 * 6.02214076e23
    return float(2.0 * scale * total), float(scale * (2.0 * total - photon))


@pytest.mark.parametrize("energy", [0.03, 0.1, 0.5])
def test_shipped_table_within_four_standard_errors(energy: float) -> None:
    shipped, found = columns("photon_buildup.csv"), simulated(energy)
    for r, got, error in zip(script.DISTANCES, found.build_up, found.standard_error, strict=True):
        both = error * np.sqrt(1.0 + PHOTONS / TABLE_PHOTONS)  # the table has an error of its own
        name, expected = f"B at {energy:g} MeV, {r:g} g/cm2", shipped[f"{energy:g}", f"{r:g}"]
        report(name, expected, float(got), atol=4.0 * float(both) + ROUNDING)


def test_shipped_table_is_on_the_grid_of_the_script() -> None:
    distances = [script.SOURCE, *script.DISTANCES]
    expected = [(energy, f"{r:g}") for energy in script.ENERGIES.split() for r in distances]
    assert list(columns("photon_buildup.csv")) == expected


@pytest.mark.parametrize("energy", [0.03, 0.1, 0.5, 2.0])
def test_all_energy_is_absorbed_somewhere(energy: float) -> None:
    """The mean ratio of energies drawn must match the cross sections scored for this to hold."""
    found = simulated(energy)
    assert 0.0 < found.balance_error < 0.01
    report(f"energy absorbed / emitted, {energy:g} MeV", 1.0, found.balance, atol=4.0 * found.balance_error)


@pytest.mark.parametrize("energy", [0.01, 0.03, 0.1, 0.5, 1.0, 3.0])
def test_scattering_cross_section_against_its_closed_form(energy: float) -> None:
    got = script.klein_nishina(np.array([energy]))  # with the electron radius squared to 7 digits, hence 2e-7
    for name, expected, value in zip(("total", "transfer"), closed_klein_nishina(energy), got, strict=True):
        report(f"Klein-Nishina {name}, {energy:g} MeV [cm2/g]", expected, float(value[0]), rtol=2e-7)


@pytest.mark.parametrize("energy", ["0.01", "0.03", "0.1", "0.5", "1", "3"])
def test_uncollided_part_is_exact(energy: str) -> None:
    """Density of first collisions times the share each gives to electrons, integrated along the flight."""
    mu_en = columns("water_attenuation.csv")[energy,]  # a node of the table: no interpolation here
    scatter, transfer = closed_klein_nishina(float(energy))
    given = max(mu_en, transfer)
    mu = scatter + given - transfer
    got = script.uncollided(float(energy), script.DISTANCES)
    for r, value in list(zip(script.DISTANCES, got, strict=True))[::3]:
        expected = quad(lambda s: given * np.exp(-mu * s), 0.0, min(r, 40.0 / mu), epsabs=0.0, epsrel=1e-11)[0]
        # 1e-5: the script interpolates its coefficients between 4000 energies
        report(f"uncollided, {energy} MeV, within {r:g} g/cm2", expected, float(value), rtol=1e-5)


def test_directions_turn_by_the_angle_drawn() -> None:
    rng = np.random.default_rng(SEED)
    before = rng.normal(size=(1000, 3))
    before /= np.linalg.norm(before, axis=1)[:, None]
    before[:2] = [[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]
    cosine = rng.uniform(-1.0, 1.0, 1000)
    after = script.turn(before, cosine, rng.uniform(0.0, 2.0 * np.pi, 1000))
    worst = float(np.abs((before * after).sum(axis=1) - cosine).max())
    report("largest error of a cosine", 0.0, worst, atol=1e-12)
