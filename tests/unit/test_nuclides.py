"""Names, chains, user tables and refusals of the nuclide table."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from pkmodel.errors import NuclideError
from pkmodel.nuclides import (
    TABLE_VERSION,
    canonical_name,
    chain,
    decay_factor,
    list_nuclides,
    nuclide,
    nuclide_table,
)
from support import report


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Lu-177", "Lu-177"),
        ("177Lu", "Lu-177"),
        ("Lu177", "Lu-177"),
        ("lu-177", "Lu-177"),
        ("[177Lu]", "Lu-177"),
        ("177-Lu", "Lu-177"),
        ("99mTc", "Tc-99m"),
        ("Tc99m", "Tc-99m"),
        ("tc-99M", "Tc-99m"),
        ("C11", "C-11"),
        (" 18F ", "F-18"),
    ],
)
def test_every_usual_spelling(spelling: str, name: str) -> None:
    assert nuclide(spelling).name == name


@pytest.mark.parametrize(("name", "nearest"), [("Lu-178", "Lu-177"), ("Y-91", "Y-90"), ("Tc-98m", "Tc-99m")])
def test_an_unknown_nuclide_names_its_neighbours(name: str, nearest: str) -> None:
    with pytest.raises(NuclideError, match=f"not in the table.*{nearest}"):
        nuclide(name)


@pytest.mark.parametrize("text", ["", "lutetium", "177", "Lu-", "Lu-177-DOTATATE", None, 177])
def test_text_that_is_no_nuclide(text: object) -> None:
    with pytest.raises(NuclideError, match="not written as a nuclide"):
        canonical_name(text)  # type: ignore[arg-type]


def test_the_table_is_whole() -> None:
    names = list_nuclides()
    assert len(names) >= 60
    daughters_of_alpha_emitters = "Fr-221 At-217 Bi-213 Po-213 Tl-209 Pb-209 Bi-212 Po-212 Tl-208 Rn-219 Po-215 Pb-211"
    for name in [*daughters_of_alpha_emitters.split(), *"Bi-211 Tl-207 Po-211 Bi-207 Rn-220 Po-216 Xe-131m".split()]:
        assert name in names
    for name in names:
        found = nuclide(name)
        assert found.name == canonical_name(name) and found.source and found.table == TABLE_VERSION
        assert found.half_life > 0.0 and all(e >= 0.0 for e in found.energy.values())
        assert (found.photons >= 0.0).all() and not found.photons.flags.writeable
        assert abs(sum(b.fraction for b in found.branches) - 1.0) < 1e-3, name
        for branch in found.branches:
            assert (branch.daughter in names) == (branch.daughter_state == "listed"), branch
    for file in ("nuclides", "branches", "photons"):
        first = (files("pkmodel") / "tables" / f"{file}.csv").read_text().splitlines()[0]
        assert first == f"# version: {TABLE_VERSION}"


def test_activity_per_nanomole() -> None:
    # lambda N_A by hand: 7.15e-5 per minute is 717.6 MBq/nmol
    lutetium = nuclide("Lu-177")
    per_lambda = lutetium.mbq_per_nmol / lutetium.decay_constant
    report("MBq in 1 nmol at lambda 7.15e-5/min", 717.62, per_lambda * 7.15e-5 * 60.0, rtol=1e-4)


def test_decay_factor() -> None:
    t = np.array([-109.77, 0.0, 109.77, 219.54]) / 60.0
    assert np.allclose(decay_factor("F-18", t), [2.0, 1.0, 0.5, 0.25], rtol=1e-12)


@pytest.mark.parametrize(
    ("parent", "formula", "expected"),
    [
        ("Ac-225", "5.8919+6.4198+7.2008+.1245+.979*8.5369", 27.99),
        ("Pb-212", "2.2163+.6406*8.9541", 7.95),
        ("At-211", "2.4998+.582*7.5860", 6.915),
        ("Ra-223", "5.7701+6.8801+7.5261+6.6756+.0028*7.586", 26.87),
        ("Ra-224", "5.7765+6.404+6.9063+2.2163+.6406*8.9541", 27.04),
        ("Th-227", "5.9882+26.873", 32.86),
    ],
)
def test_alpha_energy_of_whole_chains(parent: str, formula: str, expected: float) -> None:
    got = sum(w * (n.energy["alpha"] + n.energy["recoil"]) for n, w in chain(parent))
    report(f"{parent} chain, alpha and recoil ({formula}) MeV", expected, got, atol=0.006)


def test_a_chain_stops_where_a_daughter_outlives_its_parent() -> None:
    assert [n.name for n, _ in chain("Lu-177")] == ["Lu-177"]
    assert [n.name for n, _ in chain("I-131")] == ["I-131"]  # 131mXe, 11.8 d
    assert [n.name for n, _ in chain("Tc-99m")] == ["Tc-99m"]
    assert [n.name for n, _ in chain("At-211")] == ["At-211", "Po-211"]  # not 207Bi, 33 y
    weights = {n.name: w for n, w in chain("Pb-212")}
    assert weights == pytest.approx({"Pb-212": 1.0, "Bi-212": 1.0, "Po-212": 0.6406, "Tl-208": 0.3594})


def test_a_users_half_life_replaces_ours_inside_the_block(tmp_path: Path) -> None:
    own = tmp_path / "newer.csv"
    own.write_text("# version: lab 3\nnuclide,half_life,half_life_unit,source\nTb-161,7.5,d,our own measurement\n")
    shipped = nuclide("Tb-161")
    with nuclide_table(own):
        changed = nuclide("161Tb")
        assert changed.half_life == 180.0 and changed.table == "lab 3" and changed.source == "our own measurement"
        assert changed.energy == shipped.energy and nuclide("Lu-177").table == TABLE_VERSION
    assert nuclide("Tb-161") == shipped
    assert nuclide("Tb-161", table=own).half_life == 180.0


def test_a_users_folder_adds_a_nuclide(tmp_path: Path) -> None:
    columns = "nuclide,Z,A,half_life,half_life_unit,alpha,recoil,beta_minus,beta_plus,conversion,auger,photon"
    row = "Xx-300,120,300,2,h,0,0,0.1,0,0,0,0.05"
    (tmp_path / "nuclides.csv").write_text(f"{columns},electron_range_cm,source\n{row},,invented for a test\n")
    (tmp_path / "photons.csv").write_text("nuclide,energy_MeV,yield\nXx-300,0.1,0.5\n")
    with nuclide_table(tmp_path):
        found = nuclide("300Xx")
        assert found.photons.tolist() == [[0.1, 0.5]] and math.isnan(found.electron_range)
        assert found.status == "user"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nuclide,half_life,half_life_unit,source\nLu-177,-1,d,x\n", "half_life = -1 is outside"),
        ("nuclide,half_life,half_life_unit,source\nLu-177,nan,d,x\n", "half_life = nan"),
        ("nuclide,half_life,half_life_unit,source\nLu-177,6.6,days,x\n", "half_life_unit 'days' is not known"),
        ("nuclide,half_life,half_life_unit,source\nLu-177,6.6,,x\n", "row 2: half_life and half_life_unit"),
        ("nuclide,half_life,half_life_unit,source\nLu-177,6.6,d,\n", "row 2: Lu-177 has no source"),
        ("nuclide,half_life,half_life_unit,source\nXx-300,1,h,x\n", "column 'Z' needs a number"),
        ("isotope,half_life\nLu-177,6.6\n", "no column 'nuclide'"),
        ("nuclide,source\nLu-177,x,y\n", "more cells than the header"),
    ],
)
def test_a_users_table_with_a_fault(tmp_path: Path, text: str, message: str) -> None:
    own = tmp_path / "own.csv"
    own.write_text(text)
    with pytest.raises(NuclideError, match=message), nuclide_table(own):
        pass
    assert nuclide("Lu-177").table == TABLE_VERSION


def test_branches_must_sum_to_one(tmp_path: Path) -> None:
    (tmp_path / "branches.csv").write_text("parent,daughter,fraction,mode,daughter_state\nLu-177,Hf-177,.7,B-,stable\n")
    with pytest.raises(NuclideError, match=r"branches of Lu-177 sum to 0\.7"), nuclide_table(tmp_path):
        pass
    with pytest.raises(NuclideError, match="no such file"), nuclide_table(tmp_path / "absent.csv"):
        pass


def test_a_nuclide_travels_between_processes_and_into_sets() -> None:
    lutetium = nuclide("Lu-177")
    copy = pickle.loads(pickle.dumps(lutetium))
    assert copy == lutetium and {lutetium, copy} == {lutetium}
    assert nuclide(lutetium) is lutetium


def test_the_module_loads_no_heavy_library() -> None:
    code = "import sys, pkmodel.nuclides as n; n.nuclide('Lu-177'); print([m for m in sys.modules if m in %r])"
    heavy = ("pandas", "scipy", "xarray", "pint", "sympy")
    done = subprocess.run([sys.executable, "-c", code % (heavy,)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
