"""The shipped nuclide table against ICRP Publication 107 as packaged by others (test-only dependencies)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pkmodel.nuclides import ENERGIES, list_nuclides, nuclide
from support import report, shared

KINDS = dict(
    zip(ENERGIES[:-1], (["alpha"], ["alpha recoil"], ["beta-"], ["beta+"], ["IE"], ["auger"]), strict=True),
    photon=["gamma", "X", "annihilation"],
)
HOURS = {"us": 1e-6 / 3600, "ms": 1e-3 / 3600, "s": 1 / 3600, "m": 1 / 60, "h": 1.0, "d": 24.0, "y": 8766.0}


def _published(name: str) -> dict[str, Any]:
    package = pytest.importorskip("icrp107_database", reason="icrp107-database is not installed")
    data = json.loads((Path(package.__file__).parent / "icrp107" / f"{name}.json").read_text())
    return dict(json.loads(data) if isinstance(data, str) else data)


def test_half_lives_energies_and_photon_lines() -> None:
    worst = dict.fromkeys(("half-life", *ENERGIES, "photon lines"), 0.0)
    for name in list_nuclides():
        found, published = nuclide(name), _published(name)
        half_life = published["half_life"] * HOURS[published["time_unit"]]
        worst["half-life"] = max(worst["half-life"], abs(found.half_life / half_life - 1.0))
        for kind, emissions in KINDS.items():
            expected = sum(e * y for k in emissions for e, y in published["emissions"][k])
            difference = abs(found.energy[kind] - expected)
            assert difference <= max(0.01 * expected, 1e-4), (name, kind, expected, found.energy[kind])
            worst[kind] = max(worst[kind], min(difference / expected if expected else 0.0, difference / 1e-4 * 0.01))
        if found.energy["photon"] > 1e-4:
            lines = float(np.prod(found.photons, axis=1).sum())
            worst["photon lines"] = max(worst["photon lines"], abs(lines / found.energy["photon"] - 1.0))
    report(
        f"half-life of {len(list_nuclides())} nuclides, largest relative difference", 0.0, worst["half-life"], atol=1e-3
    )
    for kind in (*ENERGIES, "photon lines"):
        report(f"{kind} energy, largest relative difference", 0.0, worst[kind], atol=0.01)


def test_branches() -> None:
    decay = pytest.importorskip("radioactivedecay", reason="radioactivedecay is not installed")
    worst = 0.0
    for name in list_nuclides():
        other = decay.Nuclide(name)
        expected = dict(zip(other.progeny(), other.branching_fractions(), strict=True))
        got = {b.daughter: b.fraction for b in nuclide(name).branches}
        assert got.keys() == expected.keys(), name
        worst = max([worst, *(abs(got[k] - float(expected[k])) for k in got)])
    report("branching fractions, largest difference", 0.0, worst, atol=1e-5)


def test_values_read_in_the_publication_by_another_route() -> None:
    """45 nuclides from the ICRP_07.NDX index (alpha with recoil, electrons, photons), read independently."""
    lines = shared("facts/tables/nuclides_icrp107.csv").read_text().splitlines()
    header = lines[0].split(",")
    worst = 0.0
    for line in lines[1:]:
        row = dict(zip(header, line.split(","), strict=False))
        found = nuclide(row["RN"])
        got = {
            "E_alpha": found.energy["alpha"] + found.energy["recoil"],
            "E_electron": found.electrons,
            "E_photon": found.energy["photon"],
        }
        for column, value in got.items():
            worst = max(worst, abs(value - float(row[column])))
        assert found.decay_constant / 3600.0 == pytest.approx(float(row["decay_constant"]), rel=1e-3)
    report(f"energies of {len(lines) - 1} nuclides, largest difference [MeV]", 0.0, worst, atol=2e-4)
