"""An upper bound on the photon dose from everywhere else, which a self-dose result leaves out."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ..errors import DoseError
from ..nuclides import Nuclide, nuclide
from .absorbed_fraction import photon_fraction
from .s_values import GY_G_PER_MEV, Daughters, emitters, organ_shape


def cross_s_bound(
    nuclide_name: str | Nuclide,
    target_g: float,
    source_g: float,
    *,
    density: float = 1.04,
    daughters: Daughters | None = None,
) -> float:
    """Upper bound of the photon S value of a ball from any other region, wherever it lies.

    In a uniform medium reciprocity holds: ``phi(T<-S)/m_T = phi(S<-T)/m_S``. Of all regions of mass m_S outside
    the ball T, the shell around it absorbs most (Riesz rearrangement: the photon kernel falls with distance), so
    ``S(T<-S) <= k sum_j n_j E_j [phi(B<-T) - phi(T<-T)] / m_S`` where B is the concentric ball of mass m_T + m_S.
    Scatter build-up in water is included. Not included: bremsstrahlung, charged particles that cross a surface,
    density differences. Real organs lie on one side: published values are 4 to 14 times lower.

    Parameters
    ----------
    nuclide_name : str or Nuclide [text]
    target_g : mass of the target, one ball [g]
    source_g : mass of the source region [g]
    density : of target, source and between [g/cm3]
    daughters : as in `s_self`

    Returns
    -------
    float [Gy/(MBq h)]
    """
    parent = nuclide(nuclide_name)
    total = 0.0
    for member, weight in emitters(parent, daughters, who=f"cross-dose bound, {parent.name}"):
        if member.photons.size:
            energy, yields = member.photons.T
            around = photon_fraction(energy, target_g, target_g + source_g, density=density)
            inside = photon_fraction(energy, target_g, density=density)
            total += weight * float(np.sum(energy * yields * np.maximum(around - inside, 0.0)))
    return GY_G_PER_MEV * total / source_g


def cross_dose_bound(
    target: str,
    masses_g: Mapping[str, float],
    tia_MBq_h: Mapping[str, float],
    nuclide_name: str | Nuclide,
    *,
    remainder_tia: float,
    body_mass_g: float,
    daughters: Daughters | None = None,
) -> float:
    """Upper bound on the photon dose to one organ from all other organs and the rest of the body.

    The sum of `cross_s_bound` times TIA over the other organs, and over the remainder as one source of mass body
    minus organs. Bremsstrahlung is excluded, so for a pure beta emitter such as 90Y the bound is close to zero and
    says nothing about it.

    Parameters
    ----------
    target : name of the organ [text]
    masses_g : organ -> mass, the target among them [g]
    tia_MBq_h : organ -> time-integrated activity of every organ that is a source [MBq h]
    nuclide_name : str or Nuclide [text]
    remainder_tia : time-integrated activity outside the listed organs; at most injected activity / lambda minus
        theirs [MBq h]
    body_mass_g : of the whole body [g]
    daughters : as in `s_self`

    Returns
    -------
    float [Gy]

    Raises
    ------
    DoseError
        An organ has no mass, a number is not possible, or the organs weigh more than the body.
    """
    who = f"cross-dose bound of {target}"
    if target not in masses_g:
        raise DoseError(f"{who}: the organ has no mass; organs with a mass: {', '.join(masses_g) or 'none'}")
    for organ, mass in {**masses_g, "the body": body_mass_g}.items():
        if not (math.isfinite(mass) and mass > 0.0):
            raise DoseError(f"{who}: the mass of {organ} is {mass:g} g; give a positive number")
    for organ, tia in {**tia_MBq_h, "the remainder": remainder_tia}.items():
        if not (math.isfinite(tia) and tia >= 0.0):
            raise DoseError(f"{who}: the TIA of {organ} is {tia:g} MBq h; give a number, zero or greater")
    if unweighed := [organ for organ in tia_MBq_h if organ not in masses_g]:
        raise DoseError(f"{who}: {', '.join(unweighed)} have a TIA but no mass; give their masses")
    rest = body_mass_g - sum(masses_g.values())
    if remainder_tia > 0.0 and rest <= 0.0:
        raise DoseError(
            f"{who}: the organs weigh {sum(masses_g.values()):g} g, the body {body_mass_g:g} g; "
            "nothing is left for the remainder; check the masses"
        )

    shape, _ = organ_shape(target)
    ball = masses_g[target] / shape.parts
    sources = [(masses_g[organ], tia) for organ, tia in tia_MBq_h.items() if organ != target]
    sources.append((rest, remainder_tia))
    if shape.parts > 1:  # the other kidney, gland or lung
        other = 1.0 - 1.0 / shape.parts
        sources.append((masses_g[target] * other, tia_MBq_h.get(target, 0.0) * other))
    return sum(
        tia * cross_s_bound(nuclide_name, ball, mass, density=shape.density, daughters=daughters)
        for mass, tia in sources
        if tia > 0.0
    )
