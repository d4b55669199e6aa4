"""Oxygen around a capillary, and what it does to dose and to hypoxia tracers.

The model text ``tumour_krogh_oxygen`` holds what a kinetic model needs of the same law (the mean trapping); here are
the profile, the share of tissue below a level, and the effect on dose. Profiles: Krogh A. J Physiol 1919;52:409,
doi:10.1113/jphysiol.1919.sp001839. Effect: Alper T, Howard-Flanders P. Nature 1956;178:978, doi:10.1038/178978a0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from .errors import ModelError

_UM_PER_CM = 1e4
_S_PER_MIN = 60.0
P_HALF = 1.4  # [mmHg] of FMISO, 95 % CI 0.3 to 2.6: Warren & Partridge 2016, doi:10.1088/1361-6560/61/24/8596


@dataclass(frozen=True, slots=True, kw_only=True)
class Cylinder:
    """Tissue around one capillary that consumes oxygen at one rate until there is none.

    Parameters
    ----------
    capillary : radius of the capillary [um]
    tissue : radius of the tissue it supplies [um]
    vessel : oxygen pressure at the capillary [mmHg]
    consumption : oxygen consumed per volume of tissue [mL/mL/min]
    diffusivity : of oxygen in tissue [cm2/s]
    solubility : volume of oxygen per volume of tissue and pressure [1/mmHg]

    Raises
    ------
    ModelError
        A number is not above zero, or the capillary is wider than its tissue.
    """

    capillary: float
    tissue: float
    vessel: float
    consumption: float
    diffusivity: float
    solubility: float

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0.0:
                raise ModelError(f"oxygen cylinder: {name} must be above zero, found {getattr(self, name):g}")
        if self.capillary >= self.tissue:
            raise ModelError(
                f"oxygen cylinder: the capillary ({self.capillary:g} um) must lie inside its tissue "
                f"({self.tissue:g} um)"
            )

    @property
    def demand(self) -> float:
        """Consumption over diffusivity and solubility [mmHg/um2]."""
        return self.consumption / _S_PER_MIN / (self.diffusivity * self.solubility) / _UM_PER_CM**2

    def _free(self, radius: npt.NDArray[np.float64], edge: float) -> npt.NDArray[np.float64]:
        """Krogh and Erlang's profile where nothing passes at `edge`; below zero where oxygen would be gone."""
        cap = self.capillary
        return np.asarray(
            self.vessel + self.demand / 4.0 * (radius**2 - cap**2) - self.demand / 2.0 * edge**2 * np.log(radius / cap)
        )

    @property
    def lethal_radius(self) -> float:
        """Radius at which pressure and its slope are zero: tissue beyond it has no oxygen [um].

        It may lie outside `tissue`; then all of it has some.
        """

        def at_its_edge(radius: float) -> float:
            return float(self._free(np.array([radius]), radius)[0])

        low, high = self.capillary, 2.0 * self.capillary
        while at_its_edge(high) > 0.0:
            low, high = high, 2.0 * high
        for _ in range(200):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if at_its_edge(middle) > 0.0 else (low, middle)
        return 0.5 * (low + high)

    def pressure(self, radius: ArrayLike) -> npt.NDArray[np.float64]:
        """Oxygen pressure at radii between capillary and edge, zero beyond the lethal radius, (n,) array [mmHg].

        Parameters
        ----------
        radius : (n,) array, from the axis [um]

        Raises
        ------
        ModelError
            A radius lies outside the tissue.
        """
        r = np.asarray(radius, dtype=np.float64)
        if np.any(r < self.capillary * (1 - 1e-12)) or np.any(r > self.tissue * (1 + 1e-12)):
            raise ModelError(
                f"oxygen cylinder: radii from {self.capillary:g} to {self.tissue:g} um, found {r.min():g} to "
                f"{r.max():g}"
            )
        edge = min(self.tissue, self.lethal_radius)
        inside = np.maximum(self._free(np.minimum(r, edge), edge), 0.0)
        return np.where(r <= edge, inside, 0.0)

    def hypoxic_fraction(self, level: float) -> float:
        """Share of the tissue whose oxygen pressure is below a level [1].

        Parameters
        ----------
        level : such as 10, 5 or 2.5 [mmHg]
        """
        cap2, edge2 = self.capillary**2, self.tissue**2
        if level > self.vessel:
            return 1.0
        if float(self.pressure([self.tissue])[0]) >= level:
            return 0.0
        low, high = self.capillary, self.tissue
        for _ in range(100):  # pressure falls with the radius
            middle = 0.5 * (low + high)
            low, high = (middle, high) if float(self.pressure([middle])[0]) >= level else (low, middle)
        return float((edge2 - high**2) / (edge2 - cap2))

    def sample(self, points: int = 400) -> npt.NDArray[np.float64]:
        """Oxygen pressure of equal volumes of tissue, from the capillary outwards, (points,) array [mmHg].

        Means over the tissue are means of this: ``trapping(cylinder.sample(), ...).mean()``.
        """
        share = (np.arange(points) + 0.5) / points
        radius = np.sqrt(self.capillary**2 + share * (self.tissue**2 - self.capillary**2))
        return self.pressure(radius)


def oer(pO2: ArrayLike, *, m: float = 3.0, K: float = 3.0) -> npt.NDArray[np.float64]:
    """Oxygen enhancement ratio relative to no oxygen: ``(m p + K)/(p + K)``, doi:10.1038/178978a0.

    Parameters
    ----------
    pO2 : (n,) array, oxygen pressure [mmHg]
    m : greatest ratio; 1 for radiation of high LET (alpha particles) [1]
    K : pressure at which half of it is reached [mmHg]

    Raises
    ------
    ModelError
        A pressure is below zero, `m` below 1 or `K` not above zero.
    """
    p = _pressures(pO2)
    if m < 1.0 or not K > 0.0:
        raise ModelError(f"oxygen enhancement: m must be at least 1 and K above zero, found m = {m:g}, K = {K:g} mmHg")
    return np.asarray((m * p + K) / (p + K))


def dose_modifier(pO2: ArrayLike, *, m: float = 3.0, K: float = 3.0) -> npt.NDArray[np.float64]:
    """What a dose is worth relative to full oxygen: `oer` over m, (n,) array [1]. Parameters as `oer`."""
    return oer(pO2, m=m, K=K) / m


def trapping(
    pO2: ArrayLike, k3max: float, *, P_half: float = P_HALF, P_necrosis: float = 0.0
) -> npt.NDArray[np.float64]:
    """Trapping rate of a nitroimidazole such as FMISO, (n,) array [unit of k3max].

    ``k3max P_half/(P_half + p)``, times the share of cells that live, ``p/(P_necrosis + p)``, where `P_necrosis` is
    above zero (1.2 mmHg, CI 0.1 to 4.9): Warren & Partridge 2016, doi:10.1088/1361-6560/61/24/8596.

    Parameters
    ----------
    pO2 : (n,) array, oxygen pressure [mmHg]
    k3max : rate without oxygen [1/min or 1/h]
    P_half : pressure at which half as much binds [mmHg]
    P_necrosis : pressure at which half of the tissue is necrotic; 0: all lives [mmHg]

    Raises
    ------
    ModelError
        A number that cannot be negative is.
    """
    p = _pressures(pO2)
    if not P_half > 0.0 or P_necrosis < 0.0 or k3max < 0.0:
        raise ModelError(
            f"trapping: P_half must be above zero, P_necrosis and k3max not below, found {P_half:g}, {P_necrosis:g} "
            f"mmHg and {k3max:g}"
        )
    live = 1.0 if P_necrosis == 0.0 else p / (P_necrosis + p)
    return np.asarray(k3max * P_half / (P_half + p) * live)


def _pressures(pO2: ArrayLike) -> npt.NDArray[np.float64]:
    p = np.asarray(pO2, dtype=np.float64)
    if not np.all(p >= 0.0):
        raise ModelError(f"oxygen pressure cannot be below zero, found {np.nanmin(p):g} mmHg")
    return p
