"""The main job on a real patient against what others published from the same scans: TIA and absorbed dose."""

from __future__ import annotations

import pytest

import pkmodel as pk
from support import report

DENSITY = 1.04  # [g/mL], soft tissue, ICRU 44; the published doses come from a voxel method without density scaling


@pytest.fixture(scope="module")
def doses() -> tuple[pk.Study, pk.TIA, pk.Doses]:
    study = pk.load_study("snmmi_p004")
    curves = study["P004"]
    tia = pk.integrate(pk.fit("organ_2_phase", curves, "serial_spect"), draws=500)
    volumes = {o: curves[o].volume for o in curves.organs}
    masses = {o: (float(v.mean()) * DENSITY, float(v.std(ddof=1)) * DENSITY) for o, v in volumes.items()}
    return study, tia, pk.dose(tia, masses=masses)


@pytest.mark.parametrize("organ", ["kidney_left", "liver"])
def test_tia_and_tiac(organ: str, doses: tuple[pk.Study, pk.TIA, pk.Doses]) -> None:
    study, tia, _ = doses
    for quantity, name in (("TIA", "tia_point"), ("TIAC", "tiac_point")):
        published = study.published_value(organ, quantity)
        assert published is not None
        got = float(tia.data[name].sel(organ=organ))
        report(f"{organ} {quantity} [{published.unit}]", published.value, got, rtol=1e-4)


@pytest.mark.parametrize("organ", ["kidney_left", "liver"])
def test_organ_dose_against_voxel_dose(organ: str, doses: tuple[pk.Study, pk.TIA, pk.Doses]) -> None:
    study, _, result = doses
    for quantity, name in (("dose", "dose_point"), ("dose_per_activity", "dose_per_activity_point")):
        published = study.published_value(organ, quantity)
        assert published is not None
        got = float(result.data[name].sel(organ=organ))
        report(f"{organ} {quantity} [{published.unit}]", published.value, got, rtol=0.06)
