"""Interstitial fluid pressure inside a round tumour without lymphatics, from its centre to its edge.

Baxter LT, Jain RK. Microvasc Res 1989;37:77, doi:10.1016/0026-2862(89)90074-5. The model text ``tumour_pressure`` holds
the means over the tumour that a kinetic model needs; here are the profiles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from .errors import ModelError

_S_PER_H = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sphere:
    """A tumour whose vessels leak evenly, with no pressure at its edge.

    Parameters
    ----------
    radius : of the tumour [cm]
    Lp : hydraulic conductivity of the vessel wall [cm/(mmHg s)]
    SV : vessel surface per tissue volume [1/cm]
    K : hydraulic conductivity of the interstitium [cm2/(mmHg s)]
    vessel : pressure in the vessels [mmHg]
    osmotic : colloid osmotic pressure of plasma less that of the interstitium [mmHg]
    sigma : reflection coefficient of plasma proteins [1]

    Raises
    ------
    ModelError
        A number is not above zero, `sigma` is no share, or the vessels would take fluid up.
    """

    radius: float
    Lp: float
    SV: float
    K: float
    vessel: float
    osmotic: float
    sigma: float

    def __post_init__(self) -> None:
        for name in ("radius", "Lp", "SV", "K", "vessel"):
            if not getattr(self, name) > 0.0:
                raise ModelError(f"interstitial pressure: {name} must be above zero, found {getattr(self, name):g}")
        if not 0.0 <= self.sigma <= 1.0:
            raise ModelError(f"interstitial pressure: sigma is a share from 0 to 1, found {self.sigma:g}")
        if self.effective < 0.0:
            raise ModelError(
                f"interstitial pressure: {self.vessel:g} mmHg in the vessels is less than {self.sigma:g} times "
                f"{self.osmotic:g} mmHg of osmotic pressure: they would take fluid up, and this tumour has none to give"
            )

    @property
    def effective(self) -> float:
        """Interstitial pressure at which no fluid leaves the vessels [mmHg]."""
        return self.vessel - self.sigma * self.osmotic

    @property
    def alpha(self) -> float:
        """Radius over the depth in which pressure builds up [1]."""
        return float(self.radius * np.sqrt(self.Lp * self.SV / self.K))

    def _shape(self, x: ArrayLike) -> npt.NDArray[np.float64]:
        """sinh(a x)/(x sinh a) at relative radii, without overflow."""
        r = np.asarray(x, dtype=np.float64)
        if np.any(r < 0.0) or np.any(r > 1.0):
            raise ModelError(f"interstitial pressure: radii relative to the tumour's, from 0 to 1, found {r}")
        a, safe = self.alpha, np.maximum(r, 1e-9)
        return np.asarray(np.exp(-a * (1.0 - safe)) * -np.expm1(-2.0 * a * safe) / (safe * -np.expm1(-2.0 * a)))

    def pressure(self, x: ArrayLike) -> npt.NDArray[np.float64]:
        """Interstitial fluid pressure, (n,) array [mmHg].

        Parameters
        ----------
        x : (n,) array, radius over that of the tumour, 0 to 1 [1]
        """
        return np.asarray(self.effective * (1.0 - self._shape(x)))

    def filtration(self, x: ArrayLike) -> npt.NDArray[np.float64]:
        """Fluid that leaves the vessels per volume of tissue, (n,) array [1/h]. Parameters as `pressure`."""
        return np.asarray(self.Lp * self.SV * self.effective * self._shape(x) * _S_PER_H)

    @property
    def edge_velocity(self) -> float:
        """Speed at which fluid leaves the tumour through its edge: -K dp/dr there [cm/h]."""
        a = self.alpha
        slope = self.effective * (a / np.tanh(a) - 1.0) / self.radius
        return float(self.K * slope * _S_PER_H)
