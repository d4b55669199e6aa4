"""Self-dose S values against published Monte Carlo: phantoms, spheres, absorbed fractions; and the cross bound."""

from __future__ import annotations

import csv

import pytest

from pkmodel.dosimetry.absorbed_fraction import electron_fraction, photon_fraction, water_mu_en
from pkmodel.dosimetry.cross_dose import cross_s_bound
from pkmodel.dosimetry.s_values import s_self
from pkmodel.nuclides import nuclide
from support import report, shared

MGY_PER_MBQ_S = 1e3 / 3600.0  # from Gy/(MBq h)
GY_PER_BQ_S = 1e-6 / 3600.0


@pytest.mark.parametrize(
    ("organ", "sex", "mass", "expected"),
    [
        ("kidneys", "male", 310.0, 7.712e-5),
        ("liver", "male", 1799.8, 1.371e-5),
        ("spleen", "male", 150.0, 1.597e-4),
        ("kidneys", "female", 275.0, 8.688e-5),
        ("liver", "female", 1400.0, 1.753e-5),
        ("spleen", "female", 130.0, 1.836e-4),
    ],
)
def test_177lu_organs_of_the_icrp_110_phantoms(organ: str, sex: str, mass: float, expected: float) -> None:
    """OpenDose, Chauvin 2020, doi:10.2967/jnumed.119.240366."""
    s = s_self("Lu-177", mass, organ=organ)
    report(f"177Lu {organ}, {sex}, mGy/(MBq s)", expected, s.value * MGY_PER_MBQ_S, rtol=0.015)
    assert abs(s.value * MGY_PER_MBQ_S / expected - 1.0) <= s.relative_sd


@pytest.mark.parametrize(
    ("mass", "expected"),
    [
        (4.31e-3, 4.54e-9),
        (1.46e-2, 1.44e-9),
        (0.116, 1.93e-10),
        (0.932, 2.49e-11),
        (4.31, 5.46e-12),
        (14.6, 1.63e-12),
        (116.0, 2.07e-13),
        (932.0, 2.65e-14),
    ],
)
def test_177lu_soft_tissue_spheres(mass: float, expected: float) -> None:
    """Sphere table carried by PyTheranostics (spheres.json), Gy/(Bq s); local deposition is 21 % off at 4 mg."""
    report(f"177Lu sphere {mass:g} g, Gy/(Bq s)", expected, s_self("Lu-177", mass).value * GY_PER_BQ_S, rtol=0.02)


@pytest.mark.parametrize(
    ("name", "expected", "rtol"),
    [
        ("Lu-177", 0.281, 0.02),
        ("I-131", 0.429, 0.02),
        ("Y-90", 1.67, 0.02),
        ("Tb-161", 0.391, 0.02),
        ("Cu-67", 0.301, 0.02),
        ("I-124", 0.551, 0.02),
        ("F-18", 0.632, 0.02),
        ("Ga-68", 1.50, 0.02),
        ("Zr-89", 0.392, 0.05),
        ("Cu-64", 0.265, 0.02),
    ],
)
def test_sphere_of_310_g_for_ten_nuclides(name: str, expected: float, rtol: float) -> None:
    """Sphere doses of OLINDA type as carried by RAYZE, mGy/(MBq h), unit density."""
    s = s_self(name, 310.0, density=1.0)
    report(f"{name} sphere 310 g, mGy/(MBq h)", expected, s.value * 1e3, rtol=rtol)
    assert abs(s.value * 1e3 / expected - 1.0) <= s.relative_sd


@pytest.mark.parametrize(
    ("name", "mass", "expected"),
    [
        ("Lu-177", 0.0146, 0.883),
        ("Lu-177", 1.0, 0.968),
        ("Y-90", 1.0, 0.696),
        ("Y-90", 10.0, 0.851),
        ("Y-90", 100.0, 0.929),
    ],
)
def test_electron_absorbed_fractions_of_water_spheres(name: str, mass: float, expected: float) -> None:
    """PENELOPE 2018 (the five numbers the one path constant was fitted to), statistical error 0.5 to 1 %."""
    got = electron_fraction(nuclide(name).electron_range, mass, density=1.0)
    report(f"{name} electrons, {mass:g} g", expected, got, rtol=0.01)


def test_90y_spheres_by_other_codes() -> None:
    """Not used in the fit: Amato 2009 (10 and 100 g) and Hashempour 2019 (100 g, PMC6352054).

    Hashempour's 0.80 at 10 g is left out: it is 6 % below both Amato and PENELOPE.
    """
    for mass, expected, tolerance in ((10.0, 0.85, 0.02), (100.0, 0.93, 0.02), (100.0, 0.94, 0.02)):
        got = electron_fraction(nuclide("Y-90").electron_range, mass, density=1.0)
        report(f"90Y electrons, {mass:g} g", expected, got, rtol=tolerance)


@pytest.mark.parametrize(("mass", "expected", "rtol"), [(1.0, 0.111, 0.03), (10.0, 0.0146, 0.05)])
def test_152tb_spheres(mass: float, expected: float, rtol: float) -> None:
    """PMC6560118 table 3, OLINDA 2 column, Gy/(MBq h)."""
    report(f"152Tb sphere {mass:g} g, Gy/(MBq h)", expected, s_self("Tb-152", mass).value, rtol=rtol)


def test_where_most_electrons_escape_the_stated_error_covers_the_difference() -> None:
    """PMC6560118 table 3: 152Tb, 0.1 g, 0.678 (OLINDA 2) and 0.752 (ellipsoid model) Gy/(MBq h)."""
    s = s_self("Tb-152", 0.1)
    for published in (0.678, 0.752):
        report("152Tb sphere 0.1 g, Gy/(MBq h)", published, s.value, rtol=s.relative_sd)


def test_photon_absorbed_fractions_of_water_spheres() -> None:
    """Independent Monte Carlo on a label grid in water, 1 to 1800 g, 113 to 909 keV, standard error 0.2 to 0.9 %."""
    with shared("facts/tables/sphere_photon_phi.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        mass, kev = float(row["mass_g"]), float(row["keV"])
        got = photon_fraction(kev / 1000.0, mass, density=1.0)[0]
        report(f"photons {kev:g} keV, sphere {mass:g} g", float(row["phi_MC"]), float(got), rtol=0.02)


@pytest.mark.parametrize(
    ("kev", "expected"), [(50, 0.0416), (100, 0.0253), (113, 0.0258), (208, 0.0299), (364, 0.0325), (511, 0.0330)]
)
def test_water_energy_absorption(kev: float, expected: float) -> None:
    """PENELOPE 2018 values at energies that are not nodes of the NIST table, cm2/g."""
    report(f"mu_en of water, {kev} keV", expected, float(water_mu_en(kev / 1000.0)), rtol=0.02)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Lu-177", 2.370e-2),
        ("Y-90", 1.495e-1),
        ("I-131", 3.074e-2),
        ("Tb-161", 3.244e-2),
        ("Cu-67", 2.410e-2),
        ("F-18", 3.871e-2),
        ("Ga-68", 1.182e-1),
        ("Zr-89", 1.633e-2),
        ("Cu-64", 1.999e-2),
        ("Ac-225", 9.480e-1),
    ],
)
def test_local_deposition_at_one_gram(name: str, expected: float) -> None:
    """ICRP 107 energies summed by another program, mGy/(MBq s), charged particles only, no daughters."""
    got = s_self(name, 1.0, shape="local", daughters="none").value * MGY_PER_MBQ_S
    report(f"{name} local, 1 g, mGy/(MBq s)", expected, got, rtol=1e-3)


@pytest.mark.parametrize(
    ("parent", "expected"),
    [("Ac-225", 16.544), ("Pb-212", 5.106), ("Ra-223", 16.101), ("At-211", 3.992), ("Th-227", 19.599)],
)
def test_whole_chains_deposit_their_charged_energy(parent: str, expected: float) -> None:
    """Gy kg/(GBq h) at full equilibrium, unweighted (equations of the ICRP 107 index file)."""
    got = s_self(parent, 1.0, shape="local", daughters="equilibrium").value  # Gy g/(MBq h)
    report(f"{parent} chain, Gy kg/(GBq h)", expected, got, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "target", "mass", "parts", "source", "source_mass", "published"),
    [
        ("Lu-177", "kidneys", 310.0, 2, "liver", 1799.8, 1.39e-7),
        ("Lu-177", "kidneys", 310.0, 2, "spleen", 150.0, 1.83e-7),
        ("Lu-177", "liver", 1799.8, 1, "spleen", 150.0, 4.1e-8),
        ("Lu-177", "spleen", 150.0, 1, "liver", 1799.8, 4.17e-8),
        ("I-131", "kidneys", 310.0, 2, "liver", 1799.8, 1.14e-6),
        ("I-131", "kidneys", 310.0, 2, "spleen", 150.0, 2.44e-6),
        ("I-131", "spleen", 150.0, 1, "kidneys", 310.0, 2.36e-6),
    ],
)
def test_cross_dose_bound_is_above_the_phantoms(
    name: str, target: str, mass: float, parts: int, source: str, source_mass: float, published: float
) -> None:
    """177Lu: OpenDose ICRP 110 adult male; 131I: OLINDA 2 adult male; mGy/(MBq s)."""
    bound = cross_s_bound(name, mass / parts, source_mass) * MGY_PER_MBQ_S
    print(f"{name} {target}<-{source}: published {published:.3g}, bound {bound:.3g}, ratio {bound / published:.1f}")
    assert published < bound < 20.0 * published
