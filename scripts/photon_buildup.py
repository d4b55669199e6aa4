"""Generate pkmodel/tables/photon_buildup.csv: photon energy absorbed within r of a point source in infinite water.

    python scripts/photon_buildup.py [--photons N] [--energies MeV ...] [--seed S] > table.csv

The defaults give the shipped file, digit for digit (numpy 2.5, x86-64), in 4 to 5 minutes on one core and 160 MB.
Another seed, number of photons or choice of energies draws other numbers, which agree within the standard error; 2e4
photons take 8 seconds. Progress goes to the standard error stream. Needs the environment of `make venv`.

Method: photons fly freely between collisions in infinite water, many at a time. Three things differ from nature and
leave the means as they are: the uncollided part is not drawn but exact; every collision scores the mean energy it
gives to electrons, and the photon always scatters on, its weight reduced by the share of scattering; a weight below
0.1 is raised fourfold with probability 1/4, else the photon is dropped. Below 2 keV the rest is absorbed on the spot.

Cross sections, in cm2/g of water with 10 electrons in 18.015 g/mol:

* scattering: the Klein-Nishina formula for free electrons at rest, at all energies, Klein and Nishina 1929,
  doi:10.1007/BF01366453. No incoherent scattering function (binding), no Doppler broadening. The ratio of energies
  is drawn by composition and rejection (Butcher and Messel 1960, Nucl Phys 20:15).
* absorption: mu_en less the Klein-Nishina energy transfer, with mu_en of tables/water_attenuation.csv (Hubbell and
  Seltzer, NIST, doi:10.18434/T4D01F). Below 0.4 MeV this is the photoelectric effect. From 0.41 to 1.70 MeV it would
  fall to -0.2 % of mu_en and is held at 0; beyond, it stands for pair production. Annihilation photons and
  bremsstrahlung are not followed.
* coherent scattering: left out. Electrons stop where they are set free.

Constants: CODATA 2018, doi:10.1103/RevModPhys.93.025010.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from decimal import ROUND_UP, Context, Decimal
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pkmodel.dosimetry.absorbed_fraction import water_mu_en

Floats = npt.NDArray[np.float64]

ENERGIES = "0.01 0.015 0.02 0.03 0.04 0.05 0.06 0.08 0.1 0.125 0.15 0.2 0.3 0.4 0.5 0.6 0.8 1 1.5 2 3"
DISTANCES = np.array([0.1, 0.2, 0.5, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12.5, 15, 20, 25, 30, 40, 60])  # g/cm2
SOURCE = 0.001  # the table starts at this distance [g/cm2] with B = 1, its limit at the source, which is not simulated
PHOTONS, BATCHES, SEED = 800_000, 4, 20240601

ELECTRON_MASS = 0.51099895  # MeV
ELECTRON_AREA = 7.940787e-26  # classical radius squared, cm2; cut to 7 digits, more would change every later draw
ELECTRONS = 10.0 / 18.015 * 6.02214076e23  # per g of water
CUT_OFF = 2e-3  # MeV
LOW_WEIGHT, SURVIVAL = 0.1, 0.25

HEADER = """# version: 1.0
# B in F(E, r) = B (1 - exp(-mu_en r)): share of a photon's energy absorbed within r of a point source in infinite water
# own Monte Carlo, {n} photons an energy, standard error below {error:f} %, energy balance within {off:e} (README.md)
energy_MeV,distance_g_per_cm2,build_up"""

_COSINES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


@dataclass(frozen=True, slots=True)
class Result:
    """Build-up at `DISTANCES` and energy absorbed anywhere / emitted, with standard errors from the batches."""

    build_up: Floats
    standard_error: Floats
    balance: float
    balance_error: float


def klein_nishina(energy: Floats) -> tuple[Floats, Floats]:
    """Cross section of scattering and its part that goes to electrons as energy, both (n,) [cm2/g]."""
    ratio = 1.0 / (1.0 + energy[:, None] / ELECTRON_MASS * (1.0 - _COSINES))
    area = np.pi * ELECTRON_AREA * ratio**2 * (ratio + 1.0 / ratio - (1.0 - _COSINES**2)) * _WEIGHTS
    return area.sum(axis=1) * ELECTRONS, (area * (1.0 - ratio)).sum(axis=1) * ELECTRONS


@lru_cache(maxsize=1)
def _grid() -> tuple[Floats, Floats, Floats, Floats]:
    energy = np.geomspace(1e-3, 4.0, 4000)
    scatter, transfer = klein_nishina(energy)
    return np.log(energy), scatter, transfer, np.maximum(water_mu_en(energy) - transfer, 0.0)


def coefficients(energy: Floats) -> tuple[Floats, Floats, Floats]:
    """Scattering, energy transfer by scattering, and absorption, each (n,) [cm2/g]."""
    log_grid, *columns = _grid()
    scatter, transfer, absorb = (np.interp(np.log(energy), log_grid, column) for column in columns)
    return scatter, transfer, absorb


def uncollided(energy: float, distances: Floats) -> Floats:
    """Share of the energy that first collisions within the distances [g/cm2] give to electrons, exact, (k,)."""
    scatter, transfer, absorb = (float(c[0]) for c in coefficients(np.array([energy])))
    mu = scatter + absorb
    return np.asarray((transfer + absorb) / mu * -np.expm1(-mu * distances))


def sample_scatter(energy: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw the ratio of energies after and before, and the cosine of the angle, from Klein-Nishina, both (n,)."""
    alpha, ratio = energy / ELECTRON_MASS, np.empty_like(energy)
    waiting = np.arange(energy.size)
    while waiting.size:
        a = alpha[waiting]
        least = 1.0 / (1.0 + 2.0 * a)
        first, second = np.log1p(2.0 * a), 0.5 * (1.0 - least**2)  # areas under 1/ratio and under ratio
        choice, place, accept = rng.random((3, waiting.size))
        in_first = choice < first / (first + second)
        trial = np.where(in_first, np.exp(-first * place), np.sqrt(least**2 + (1.0 - least**2) * place))
        one_less_cosine = (1.0 - trial) / (a * trial)
        sine_squared = one_less_cosine * (2.0 - one_less_cosine)
        taken = accept < 1.0 - trial * sine_squared / (1.0 + trial**2)
        ratio[waiting[taken]] = trial[taken]
        waiting = waiting[~taken]
    return ratio, 1.0 - (1.0 - ratio) / (alpha * ratio)


def turn(direction: Floats, cosine: Floats, azimuth: Floats) -> Floats:
    """Unit vectors (n, 3) turned by an angle of given cosine, at an azimuth about the old direction."""
    ux, uy, uz = direction.T
    sine = np.sqrt(np.maximum(0.0, 1.0 - cosine**2))
    across, along = sine * np.cos(azimuth), sine * np.sin(azimuth)
    tilt = np.sqrt(np.maximum(1e-12, 1.0 - uz**2))
    at_pole = tilt < 1e-4  # where the azimuth of the old direction loses its meaning
    x = np.where(at_pole, across, (across * ux * uz - along * uy) / tilt + ux * cosine)
    y = np.where(at_pole, along, (across * uy * uz + along * ux) / tilt + uy * cosine)
    z = np.where(at_pole, np.sign(uz) * cosine, -across * tilt + uz * cosine)
    turned = np.stack([x, y, z], axis=1)
    return np.asarray(turned / np.linalg.norm(turned, axis=1)[:, None])


def scattered(energy: float, photons: int, rng: np.random.Generator) -> Floats:
    """Share of the energy left by second and later collisions, (k + 1,): within each of `DISTANCES`, and anywhere."""
    edges = np.concatenate([[0.0], DISTANCES, [np.inf]])
    shells = np.zeros(edges.size - 1)

    def score(where: Floats, amount: Floats) -> None:
        shells[:] += np.histogram(np.sqrt((where**2).sum(axis=1)), edges, weights=amount)[0]

    position, direction = np.zeros((photons, 3)), np.tile([0.0, 0.0, 1.0], (photons, 1))
    e, weight, collisions = np.full(photons, energy), np.ones(photons), 0
    while e.size:
        scatter, transfer, absorb = coefficients(e)
        mu = scatter + absorb
        position = position + direction * (-np.log(rng.random(e.size)) / mu)[:, None]
        collisions += 1
        if collisions > 1:  # the first is in the uncollided part
            score(position, weight * e * (transfer + absorb) / mu)
        ratio, cosine = sample_scatter(e, rng)
        e, weight = e * ratio, weight * scatter / mu
        direction = turn(direction, cosine, 2.0 * np.pi * rng.random(e.size))
        low = weight < LOW_WEIGHT
        dropped = low & (rng.random(e.size) > SURVIVAL)
        weight = np.where(low, weight / SURVIVAL, weight)
        ended, on = ~dropped & (e <= CUT_OFF), ~dropped & (e > CUT_OFF)
        score(position[ended], (weight * e)[ended])
        position, direction, e, weight = position[on], direction[on], e[on], weight[on]
    return np.asarray(np.cumsum(shells) / (photons * energy))


def build_up(energy: float, photons: int, rng: np.random.Generator, *, batches: int = BATCHES) -> Result:
    """B in F(E, r) = B (1 - exp(-mu_en r)) for one energy [MeV]."""
    runs = np.array([scattered(energy, photons // batches, rng) for _ in range(batches)])
    mean, error = runs.mean(axis=0), runs.std(axis=0, ddof=1) / np.sqrt(batches)
    total = mean + uncollided(energy, np.append(DISTANCES, np.inf))
    plain = -np.expm1(-water_mu_en(energy) * DISTANCES)
    return Result(total[:-1] / plain, error[:-1] / plain, float(total[-1]), float(error[-1]))


def table(energies: list[float], photons: int, seed: int) -> str:
    """The whole file, header included."""
    rng, rows, error, off = np.random.default_rng(seed), [], 0.0, 0.0
    for energy in energies:
        found = build_up(energy, photons, rng)
        error = max(error, float((found.standard_error / found.build_up).max()))
        off = max(off, abs(found.balance - 1.0))
        print(f"{energy:g} MeV: balance {found.balance:.5f}, largest error so far {error:.3%}", file=sys.stderr)
        rows.append(f"{energy:g},{SOURCE:g},1")
        rows += [f"{energy:g},{r:g},{b:.4f}" for r, b in zip(DISTANCES, found.build_up, strict=True)]
    up = Context(prec=1, rounding=ROUND_UP).create_decimal  # to one digit, as a bound
    n = f"{Decimal(photons).normalize():e}".replace("+", "")
    return "\n".join([HEADER.format(n=n, error=up(100.0 * error), off=up(off)), *rows])


def main() -> None:
    """Write the table to the standard output."""
    parser = argparse.ArgumentParser(description="scatter build-up of a point photon source in water")
    parser.add_argument("--photons", type=float, default=PHOTONS, help="per energy (default 8e5)")
    parser.add_argument("--energies", type=float, nargs="+", default=[float(e) for e in ENERGIES.split()], help="MeV")
    parser.add_argument("--seed", type=int, default=SEED)
    chosen = parser.parse_args()
    if chosen.photons < BATCHES or not all(0.01 <= energy <= 4.0 for energy in chosen.energies):
        parser.error(f"at least {BATCHES} photons, and energies from 0.01 to 4 MeV")
    print(table(chosen.energies, int(chosen.photons), chosen.seed))


if __name__ == "__main__":
    main()
