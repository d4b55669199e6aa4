"""What the S-value room promises and refuses: notes, daughters, scaling, imported matrices, the cross bound."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkmodel.dosimetry.absorbed_fraction import electron_fraction, photon_fraction, water_mu_en
from pkmodel.dosimetry.cross_dose import cross_dose_bound, cross_s_bound
from pkmodel.dosimetry.s_matrix import load_s_matrix
from pkmodel.dosimetry.s_values import s_self, scale_mass
from pkmodel.errors import DoseError, NuclideError
from pkmodel.nuclides import nuclide_table
from support import report

WIDE = "# units: mGy/(MBq s)\ntarget,kidneys,liver\nkidneys,7.7e-5,1.4e-7\nliver,1.2e-7,1.4e-5\n"


def test_daughters_must_be_stated_where_they_matter() -> None:
    for name in ("Ac-225", "Pb-212", "Ra-223", "At-211", "Mo-99"):
        with pytest.raises(DoseError, match=r"say daughters='equilibrium'.*or daughters='none'"):
            s_self(name, 10.0)
    whole = s_self("Ac-225", 10.0, daughters="equilibrium")
    alone = s_self("Ac-225", 10.0, daughters="none")
    assert whole.value > 4.0 * alone.value
    assert "Fr-221" in whole.note and "not RBE weighted" in whole.note and "daughters not included" in alone.note
    for name in ("Lu-177", "I-131", "In-111", "F-18"):  # no daughters, long-lived ones, or a negligible share
        s_self(name, 10.0)
    with pytest.raises(DoseError, match="'some' is not known"):
        s_self("Ac-225", 10.0, daughters="some")  # type: ignore[arg-type]


def test_no_shape_is_chosen_silently() -> None:
    assert s_self("Lu-177", 100.0).note == ""
    assert "no shape is known for 'left_toe'" in s_self("Lu-177", 100.0, organ="left_toe").note
    assert s_self("Lu-177", 20.0, organ="Tumour_3").note == ""
    assert "upper bound" in s_self("Lu-177", 1170.0, organ="red_marrow").note
    assert s_self("Lu-177", 1170.0, organ="red_marrow").relative_sd > 0.4
    assert "leaves the region" in s_self("Y-90", 1.0).note


def test_one_kidney_of_half_the_mass_is_the_pair() -> None:
    pair, one = s_self("Lu-177", 310.0, organ="kidneys"), s_self("Lu-177", 155.0, organ="kidney_left")
    assert one.value == pytest.approx(2.0 * pair.value, rel=1e-12)
    assert s_self("Lu-177", 310.0, organ="liver", parts=2).value == pytest.approx(pair.value, rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mass_g": 0.0}, "mass_g = 0 is not possible"),
        ({"mass_g": float("nan")}, "mass_g = nan"),
        ({"mass_g": 10.0, "density": -1.0}, "density = -1"),
        ({"mass_g": 10.0, "parts": 0}, "parts = 0"),
        ({"mass_g": 10.0, "shape": "cube"}, "shape 'cube' is not known"),
    ],
)
def test_impossible_regions(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(DoseError, match=message):
        s_self("Lu-177", **arguments)  # type: ignore[arg-type]
    with pytest.raises(NuclideError):
        s_self("Lu-178", 10.0)


def test_a_table_without_electron_range_cannot_give_escape(tmp_path: Path) -> None:
    columns = "nuclide,Z,A,half_life,half_life_unit,alpha,recoil,beta_minus,beta_plus,conversion,auger,photon,source"
    own = tmp_path / "own.csv"
    own.write_text(f"{columns}\nXx-300,120,300,2,h,0,0,0.1,0,0,0,0,invented\n")
    with nuclide_table(own):
        with pytest.raises(DoseError, match="no electron_range_cm"):
            s_self("Xx-300", 10.0)
        report("0.1 MeV in 10 g, Gy/(MBq h)", 0.0057678, s_self("Xx-300", 10.0, shape="local").value, rtol=1e-4)


def test_small_and_large_limits_of_the_fractions() -> None:
    # a thin sphere: mean chord 3R/4 seen from inside, so phi -> mu_en 3R/4
    radius = (3.0 * 1e-3 / (4.0 * np.pi)) ** (1.0 / 3.0)
    report(
        "511 keV, 1 mg",
        float(water_mu_en(0.511)) * 0.75 * radius,
        photon_fraction(0.511, 1e-3, density=1.0)[0],
        rtol=5e-3,
    )
    report("20 keV, 100 kg", 1.0, float(photon_fraction(0.02, 1e5, density=1.0)[0]), atol=0.05)
    assert electron_fraction(1.0, 1e-3, density=1.0) == 0.0
    assert electron_fraction(0.0, 1.0, density=1.0) == 1.0
    assert photon_fraction(0.2, 100.0, 100.0, density=1.0) == pytest.approx(photon_fraction(0.2, 100.0, density=1.0))


@settings(max_examples=40, deadline=None)
@given(st.floats(0.1, 2e4), st.floats(1.001, 3.0), st.sampled_from(["Lu-177", "I-131", "Y-90", "F-18", "In-111"]))
def test_a_larger_mass_never_gets_a_larger_dose(mass: float, times: float, name: str) -> None:
    small, large = s_self(name, mass), s_self(name, mass * times)
    assert large.value < small.value
    assert large.value * times >= small.value * (1.0 - 1e-9)  # but absorbs more of the energy
    assert 0.015 <= large.relative_sd < 1.0


def test_mass_scaling_follows_the_full_calculation() -> None:
    for name in ("Lu-177", "I-131", "F-18"):
        reference = s_self(name, 310.0, organ="kidneys")
        for mass in (200.0, 450.0):
            exact = s_self(name, mass, organ="kidneys").value
            report(f"{name} kidneys 310 -> {mass:g} g", exact, float(scale_mass(reference, 310.0, mass)), rtol=0.01)
    assert scale_mass(reference, 310.0, np.array([310.0, 310.0])) == pytest.approx([reference.value] * 2)


def _write(folder: Path, text: str) -> Path:
    file = folder / "s.csv"
    file.write_text(text)
    return file


def test_an_s_matrix_in_both_forms(tmp_path: Path) -> None:
    wide = load_s_matrix(_write(tmp_path, WIDE))
    assert wide.dims == ("target", "source") and wide.attrs["units"] == "Gy/(MBq h)"
    report("kidneys<-liver, Gy/(MBq h)", 1.4e-7 * 3.6, float(wide.sel(target="kidneys", source="liver")), rtol=1e-12)
    assert wide.attrs["sha256"] == hashlib.sha256(WIDE.encode()).hexdigest()
    long = (
        "source;target;value\nliver;kidneys;1.4e-7\nliver;liver;1.4e-5\nkidneys;kidneys;7.7e-5\nkidneys;liver;1.2e-7\n"
    )
    other = load_s_matrix(_write(tmp_path, long), units="mGy/(MBq s)")
    assert np.allclose(other.sel(target=wide.target, source=wide.source), wide, rtol=1e-15)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("# units: mGy/(MBq s)\n", ""), "s.csv: the units of the S values are not stated"),
        (lambda t: t.replace("mGy/(MBq s)", "mSv/(MBq s)"), r"units 'mSv/\(MBq s\)' are .*equivalent_dose"),
        (lambda t: t.replace("mGy/(MBq s)", "mGy"), "units 'mGy' are dose; an S value is dose per activity and time"),
        (lambda t: t.replace("mGy/(MBq s)", "mGy/s/s"), "an S value is dose per activity and time"),
        (lambda t: t.replace("mGy/(MBq s)", "mGy/(MBqq s)"), "s.csv: unit .* is not known"),
        (lambda t: t.replace("1.4e-7", "-1.4e-7"), "s.csv row 3, column 'liver': -1.4e-7 is not possible"),
        (lambda t: t.replace("1.4e-7", "nan"), "s.csv row 3, column 'liver': nan is not possible"),
        (lambda t: t.replace("1.4e-7", "inf"), "inf is not possible"),
        (lambda t: t.replace("1.4e-7", "1,4e-7"), "row 3: 4 cells, but the header has 3 columns"),
        (lambda t: t.replace("1.4e-7", "small"), "'small' is not a number"),
        (lambda t: t.replace("1.4e-7", ""), "'' is not a number"),
        (lambda t: t.replace("\nliver,", "\nkidneys,"), "kidneys <- kidneys is given twice, first in row 3"),
        (lambda t: t.replace("kidneys,liver\n", "kidneys,kidneys\n"), "given twice"),
        (lambda t: t.replace("\nliver,", "\n,"), "the target has no name"),
        (lambda t: t.splitlines()[0], "no rows"),
        (lambda t: "# units: Gy/(Bq s)\ntarget,source,s\na,b,1\n", "long form needs the columns"),
        (lambda t: "# units: Gy/(Bq s)\ntarget,source,value\na,a,1\nb,b,1\n", "no value for a <- b .2 pairs"),
    ],
)
def test_an_s_matrix_with_a_fault(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    with pytest.raises(DoseError, match=message):
        load_s_matrix(_write(tmp_path, change(WIDE)))


def test_units_said_twice_must_agree(tmp_path: Path) -> None:
    file = _write(tmp_path, WIDE)
    assert load_s_matrix(file, units="mGy/MBq/s").attrs["file_units"] == "mGy/MBq/s"
    with pytest.raises(DoseError, match="which one is right"):
        load_s_matrix(file, units="Gy/(MBq s)")
    with pytest.raises(DoseError, match="no such file"):
        load_s_matrix(tmp_path / "absent.csv")


def test_the_cross_bound_adds_its_sources() -> None:
    masses = {"kidneys": 310.0, "liver": 1800.0, "spleen": 150.0}
    tia = {"kidneys": 2e4, "liver": 5e4}
    got = cross_dose_bound("kidneys", masses, tia, "Lu-177", remainder_tia=1e5, body_mass_g=73000.0)
    parts = ((5e4, 1800.0), (1e5, 73000.0 - 2260.0), (1e4, 155.0))  # liver, remainder, the other kidney
    by_hand = sum(a * cross_s_bound("Lu-177", 155.0, m) for a, m in parts)
    report("bound of kidneys, Gy", by_hand, got, rtol=1e-12)
    assert 0.0 < got < 0.05 * 2e4 * s_self("Lu-177", 310.0, organ="kidneys").value
    nothing = cross_dose_bound("liver", masses, {"liver": 1e4}, "Y-90", remainder_tia=0.0, body_mass_g=73000.0)
    assert nothing == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "heart"}, "the organ has no mass; organs with a mass: kidneys, liver"),
        ({"masses_g": {"kidneys": -1.0, "liver": 1800.0}}, "mass of kidneys is -1 g"),
        ({"tia_MBq_h": {"liver": float("nan")}}, "TIA of liver is nan"),
        ({"tia_MBq_h": {"spleen": 1.0}}, "spleen have a TIA but no mass"),
        ({"body_mass_g": 2000.0}, "nothing is left for the remainder"),
        ({"nuclide_name": "Ac-225"}, "say daughters"),
    ],
)
def test_an_impossible_cross_bound(arguments: dict[str, object], message: str) -> None:
    usual: dict[str, object] = {
        "target": "kidneys",
        "masses_g": {"kidneys": 310.0, "liver": 1800.0},
        "tia_MBq_h": {"liver": 1e4},
        "nuclide_name": "Lu-177",
        "remainder_tia": 1e5,
        "body_mass_g": 73000.0,
    }
    with pytest.raises(DoseError, match=message):
        cross_dose_bound(**{**usual, **arguments})  # type: ignore[arg-type]
