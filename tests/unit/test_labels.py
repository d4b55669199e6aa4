"""Label chemistry: every file says how fast the label leaves a cell and where it goes, and nothing is lost there."""

from __future__ import annotations

import math
import tomllib
from typing import Any

import pytest

import pkmodel as pk
from support import ROOT, report

FILES = sorted((ROOT / "models" / "labels").glob("label_*.toml"))
STAYS = {"label_dota", "label_dtpa", "label_dtpa_labile", "label_dfo", "label_dfo_mouse", "label_nota"}
STAYS |= {"label_hynic", "label_f18_alf", "label_sgmib"}
LEAVES = {"label_iodine", "label_iodine_mouse", "label_f18_sfb"}
VARIANTS = {"label_iodine_blocked"}  # of another label


def _in_cells(label: str, organs: tuple[str, ...] = ("tumour", "kidneys")) -> pk.Model:
    """A body that is nothing but cells with label in them: what the label's file alone says."""
    return pk.assemble(
        "cells",
        [label, "bladder"],
        layers=[{"file": "release", "organs": list(organs)}],
        organs=list(organs),
    )


def test_every_label_is_looked_at() -> None:
    assert {f.stem for f in FILES} == STAYS | LEAVES | VARIANTS


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_label_says_rate_source_and_destination(path: Any) -> None:
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    if path.stem in VARIANTS:
        return
    column = raw["table"]["k_loss"]
    assert column["source"] and column["status"], "a rate without source or status"
    assert "*" in column["values"] and "free_label" in raw["connect"]["*"]
    model = _in_cells(path.stem)
    assert raw["connect"]["*"]["free_label"] in model.compartments
    rate = model.parameters["k_loss_tumour"].canonical
    print(f"{path.stem}: half-life in tumour cells {math.log(2) / rate:.3g} h")
    assert rate < 0.02 if path.stem in STAYS else rate > 0.2


def test_memory_is_marked() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        rows = [p for p in pk.load_model(path.stem).parameters.values() if "memory" in p.source]
        assert all(p.status == "unverified" for p in rows), path.stem
        assert "memory" not in text or 'status  = "unverified"' in text


def test_iodine_becomes_iodide_and_zirconium_bone() -> None:
    """The cell empties with k_loss; what left it is found in the ion's organs, all of it."""
    for label, organ, least in (("label_iodine", "thyroid", 0.15), ("label_dfo", "bone", 0.004)):
        model = _in_cells(label)
        rate = model.parameters["k_loss_tumour"].canonical
        run = pk.simulate(model, "1 nmol once into n_tumour", [24, 96])
        for k, hours in enumerate((24, 96)):
            left = math.exp(-rate * hours)
            report(f"{label}: left in cells at {hours} h", left, float(run["tumour"][k]), rtol=1e-6, atol=1e-9)
            total = sum(float(run[place][k]) for place in ("whole_body", "urine", "faeces"))
            report(f"{label}: present and excreted at {hours} h", 1.0, total, rtol=1e-9)
        print(f"{label}: {float(run[organ][0]):.3f} of the label in {organ} at 24 h")
        assert float(run[organ][0]) > least


def test_a_blocked_thyroid_takes_up_nothing() -> None:
    run = pk.simulate(_in_cells("label_iodine_blocked"), "1 nmol once into n_tumour", [24])
    assert float(run["thyroid"][0]) == 0.0


def test_sgmib_leaves_kidneys_in_hours_and_tumour_in_days() -> None:
    """Tumour above kidney by 3 h in mice; of one antibody the tumour loses it 0.0077/h faster than 177Lu."""
    sgmib, metal = _in_cells("label_sgmib"), _in_cells("label_dtpa")
    difference = sgmib.parameters["k_loss_tumour"].canonical - metal.parameters["k_loss_tumour"].canonical
    by_hand = (math.log(15.27 / 2.86) - math.log(31.58 / 21.64)) / (192 - 24)  # PMC2946893, Table 1
    report("loss of SGMIB above the metal's [1/h]", by_hand, difference, rtol=0.01)
    at = {o: math.exp(-3 * sgmib.parameters[f"k_loss_{o}"].canonical) for o in ("tumour", "kidneys")}
    print(f"left at 3 h: tumour {at['tumour']:.2f}, kidneys {at['kidneys']:.2f}")
    assert at["kidneys"] < 0.2 < 0.9 < at["tumour"]
