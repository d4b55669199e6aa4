"""Dose per GBq of each organ for every patient, and what the tumour gets when the first organ reaches its limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..dosimetry.cross_dose import cross_dose_bound
from ..dosimetry.limits import Limit
from ..dosimetry.s_values import Daughters, s_self, scale_mass
from ..dosimetry.values import lognormal, stream
from ..errors import DoseError
from ..nuclides import nuclide

Array = NDArray[np.float64]

LIMITS = {"kidneys": "23 Gy", "red_marrow": "2 Gy", "liver": "30 Gy"}
"""Absorbed doses at which formats are compared (`published_limits`: kidney TD5/5 and marrow unverified, liver
secondary). They set formats beside each other; they are not for planning."""

PER_GBQ = 1000.0  # MBq in a GBq


def organ_doses(
    tiac: Mapping[str, Array], masses: Mapping[str, Array], name: str, *, daughters: Daughters, seed: int
) -> dict[str, Array]:
    """Self-dose of each organ per injected activity, as `dose` computes it, with each patient's own mass.

    Parameters
    ----------
    tiac : organ -> (patients,) array, the typical patient first [h]
    masses : organ -> (patients,) array [g]
    name : of the nuclide [text]
    daughters : ``"equilibrium"``: short-lived daughters decay where the nuclide does; ``"none"``
    seed : of the S values' model error, one draw a patient and organ, the same for every format and nuclide [1]

    Returns
    -------
    dict
        organ -> (patients,) array [Gy/GBq]; the typical patient has no model error.
    """
    out = {}
    for organ, values in tiac.items():
        mass = masses[organ]
        s = s_self(name, float(mass[0]), organ=organ, daughters=daughters)
        one = np.ones(1)
        error = lognormal(one, one * s.relative_sd, mass.size - 1, stream(seed, f"S value of {organ}"))[0]
        out[organ] = PER_GBQ * values * scale_mass(s, float(mass[0]), mass) * np.concatenate([one, error])
    return out


def cross_bounds(
    tiac: Mapping[str, Array], masses: Mapping[str, Array], name: str, *, body_mass: float, daughters: Daughters
) -> dict[str, float]:
    """Most that photons from elsewhere can add in the typical patient, organ -> [Gy/GBq]."""
    activity = {o: PER_GBQ * float(v[0]) for o, v in tiac.items()}
    grams = {o: float(masses[o][0]) for o in tiac}
    everything = PER_GBQ / nuclide(name).decay_constant
    rest = max(everything - sum(activity.values()), 0.0)
    return {
        organ: cross_dose_bound(
            organ, grams, activity, name, remainder_tia=rest, body_mass_g=body_mass, daughters=daughters
        )
        for organ in tiac
    }


@dataclass(frozen=True, slots=True)
class Index:
    """What an activity at which the first organ reaches its limit does to the tumour."""

    tumour: Array  # (patients,) dose of the tumour at that activity [Gy]
    activity: Array  # (patients,) that activity [GBq]
    ratio: Array  # (patients,) dose of the tumour over that of the limiting organ [1]
    organ: NDArray[np.str_]  # (patients,) which organ limits [text]


def therapeutic_index(doses: Mapping[str, Array], limits: Mapping[str, float]) -> Index:
    """Dose of the tumour when the first organ reaches its limit: ``D_tumour min over organs of limit/D_organ``.

    Parameters
    ----------
    doses : organ -> (patients,) array, ``tumour`` among them [Gy/GBq]
    limits : organ -> limit [Gy]

    Raises
    ------
    DoseError
        No organ with a limit has a dose.
    """
    named = [o for o in limits if o in doses]
    if not named:
        raise DoseError(
            f"no organ with a limit ({', '.join(limits) or 'none'}) has a dose; organs: {', '.join(doses)}; "
            'give limits={"kidneys": "23 Gy"}'
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        allowed = np.array([limits[o] / doses[o] for o in named])
        first = np.argmin(np.where(np.isnan(allowed), np.inf, allowed), axis=0)
        activity = np.take_along_axis(allowed, first[None], axis=0)[0]
        limiting = np.take_along_axis(np.array([doses[o] for o in named]), first[None], axis=0)[0]
        return Index(doses["tumour"] * activity, activity, doses["tumour"] / limiting, np.array(named)[first])


def read_limits(limits: Mapping[str, str | float] | None) -> dict[str, float]:
    """Limits as absorbed doses [Gy].

    Raises
    ------
    DoseError
        A limit cannot be read, or is a BED: a comparison has no schedule.
    """
    out = {}
    for organ, text in (limits or LIMITS).items():
        limit = Limit.parse(organ, text) if isinstance(text, str) else Limit(organ=organ, value=float(text))
        if limit.kind != "dose":
            raise DoseError(
                f"limit of {organ}: {text!r}; a comparison of formats takes absorbed doses, such as '23 Gy'"
            )
        out[organ] = limit.value
    return out
