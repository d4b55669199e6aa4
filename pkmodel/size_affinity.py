"""Which size and which affinity a tumour-seeking molecule should have: uptake in closed form, before any solver.

Where binding sites are in excess, a tumour that exchanges with plasma and internalises what is bound is linear. With
binding in quasi-equilibrium, a fraction ``f`` of what has left the vessels is free, and the total per tumour volume
(free, bound and internalised on its way to loss at `ke`) answers plasma ``sum A_j exp(-k_j t)`` with

    T(t) = kperm sum_j A_j (exp(-k_j t) - exp(-Omega t))/(Omega - k_j)
    f = KD/(KD + Ag/eps),   Omega = kperm f/eps + ke (1 - f),   kperm = 2 P Rcap/Rkrogh^2

(Schmidt & Wittrup 2009, doi:10.1158/1535-7163.MCT-09-0195; Thurber, Schmidt & Wittrup 2008, Trends
Pharmacol Sci 29:57). What size does to permeability, void fraction and plasma clearance is not written here but in
`models/laws`. The moduli below say when the closed form ends: when ligand saturates the sites near a vessel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from .assembly import load_model
from .errors import ModelError, did_you_mean
from .expressions import symbol
from .model import Model
from .units import factor

Array = NDArray[np.float64]
_CM_PER_UM = 1e-4
_S_PER_H = 3600.0


@dataclass(frozen=True, slots=True, eq=False)
class Plasma:
    """A plasma curve as a sum of exponentials, ``sum_j amplitude_j exp(-rate_j t)``.

    Parameters
    ----------
    amplitude : (m,) array, or (..., m) for several curves [nmol/L, %ID/mL or any concentration]
    rate : (m,) array, or (..., m) [1/h]

    Raises
    ------
    ModelError
        The shapes differ, or a number is not finite, or a rate is negative.
    """

    amplitude: Array
    rate: Array

    def __post_init__(self) -> None:
        amplitude, rate = (np.atleast_1d(np.asarray(x, dtype=float)) for x in (self.amplitude, self.rate))
        if amplitude.shape[-1] != rate.shape[-1]:
            raise ModelError(
                f"a plasma curve has {amplitude.shape[-1]} amplitudes and {rate.shape[-1]} rates; give one rate each"
            )
        if not (np.all(np.isfinite(amplitude)) and np.all(np.isfinite(rate)) and np.all(rate >= 0)):
            raise ModelError(f"a plasma curve needs finite amplitudes and rates of 0 1/h or more; found rates {rate}")
        object.__setattr__(self, "amplitude", amplitude)
        object.__setattr__(self, "rate", rate)

    def at(self, t: ArrayLike) -> Array:
        """Concentration at the times `t` [h], (...,) as amplitude and `t` broadcast."""
        time = np.asarray(t, dtype=float)[..., None]
        return np.asarray(np.sum(self.amplitude * np.exp(-self.rate * time), axis=-1))

    @property
    def auc(self) -> Array:
        """Area under the curve to infinity [concentration h]; infinite where a rate is zero."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.sum(self.amplitude / self.rate, axis=-1))


def exchange_rate(P: ArrayLike, Rcap: ArrayLike = 8.0, Rkrogh: ArrayLike = 75.0) -> Array:
    """Rate constant of extravasation per tumour volume, kperm = 2 P Rcap/Rkrogh^2 [1/h].

    Parameters
    ----------
    P : permeability of the vessel wall [cm/s]
    Rcap : radius of a capillary [um]
    Rkrogh : radius of the tissue that a capillary supplies [um]

    Raises
    ------
    ModelError
        A permeability is negative or a radius is not positive.
    """
    P, Rcap, Rkrogh = _at_least(0, P=P), _above(0, Rcap=Rcap), _above(0, Rkrogh=Rkrogh)
    return np.asarray(2.0 * P * Rcap / Rkrogh**2 / _CM_PER_UM * _S_PER_H)


def free_fraction(KD: ArrayLike, Ag: ArrayLike, eps: ArrayLike) -> Array:
    """Free share of what has left the vessels, with sites in excess: KD/(KD + Ag/eps).

    Parameters
    ----------
    KD : dissociation constant [nmol/L]
    Ag : binding sites per tumour volume [nmol/L]
    eps : void fraction, share of the tumour open to the ligand [1]

    Raises
    ------
    ModelError
        A number is negative, or `eps` is not above zero.
    """
    KD, Ag, eps = _above(0, KD=KD), _at_least(0, Ag=Ag), _above(0, eps=eps)
    return np.asarray(KD / (KD + Ag / eps))


def loss_rate(kperm: ArrayLike, eps: ArrayLike, KD: ArrayLike, Ag: ArrayLike, ke: ArrayLike) -> Array:
    """Rate constant Omega at which a tumour loses ligand: back to plasma while free, inside cells while bound [1/h].

    The arguments are those of `tumour_uptake`.
    """
    f = free_fraction(KD, Ag, eps)
    return np.asarray(_at_least(0, kperm=kperm) * f / np.asarray(eps) + _at_least(0, ke=ke) * (1.0 - f))


def tumour_uptake(
    t: ArrayLike, plasma: Plasma, *, kperm: ArrayLike, eps: ArrayLike, KD: ArrayLike, Ag: ArrayLike, ke: ArrayLike
) -> Array:
    """Ligand per tumour volume, in the unit of the plasma curve, with binding sites in excess.

    Parameters
    ----------
    t : times since injection [h]
    plasma : curve of the plasma
    kperm, ke : extravasation; internalisation and loss of the bound [1/h]
    eps : void fraction [1]
    KD, Ag : dissociation constant; binding sites per tumour volume [nmol/L]

    Returns
    -------
    Array
        All arguments broadcast against each other, and against the leading axes of the plasma curve.

    Raises
    ------
    ModelError
        A time or a parameter is negative.
    """
    time = _at_least(0, t=t)[..., None]
    omega = loss_rate(kperm, eps, KD, Ag, ke)[..., None]
    slow, fast = np.minimum(plasma.rate, omega), np.maximum(plasma.rate, omega)
    # (exp(-a t) - exp(-b t))/(b - a) without cancellation, and t exp(-a t) where the rates meet
    x = (fast - slow) * time
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(x > 0, -np.expm1(-x) / np.where(x > 0, x, 1.0), 1.0)
    terms = plasma.amplitude * np.exp(-slow * time) * time * mean
    return np.asarray(np.asarray(kperm, dtype=float) * np.sum(terms, axis=-1))


def retention_affinity(kperm: ArrayLike, Ag: ArrayLike, ke: ArrayLike) -> Array:
    """The KD at which a molecule in the tumour is as likely to go back to plasma as into a cell: Ag ke/kperm [nmol/L].

    Tighter binding than this adds little; the ratio of two sizes is that of their `kperm`.

    Parameters
    ----------
    kperm, ke : extravasation; internalisation and loss of the bound [1/h]
    Ag : binding sites per tumour volume [nmol/L]
    """
    return np.asarray(_at_least(0, Ag=Ag) * _at_least(0, ke=ke) / _above(0, kperm=kperm))


def biot(P: ArrayLike, D: ArrayLike, Rcap: ArrayLike = 8.0) -> Array:
    """Biot number 2 P Rcap/D: far below 1, leaving the vessel is what limits uptake [1].

    Parameters
    ----------
    P : permeability of the vessel wall [cm/s]
    D : diffusion coefficient in the tissue [cm2/s]
    Rcap : radius of a capillary [um]
    """
    return np.asarray(2.0 * _at_least(0, P=P) * _above(0, Rcap=Rcap) * _CM_PER_UM / _above(0, D=D))


def thiele_vascular(kperm: ArrayLike, Ag: ArrayLike, ke: ArrayLike, Cp: ArrayLike) -> Array:
    """Squared Thiele modulus ke Ag/(kperm Cp): above 1, cells consume the ligand before it saturates the tissue [1].

    Extravasation `kperm` and internalisation `ke` [1/h]; sites `Ag` per tumour volume, ligand `Cp` in plasma [nmol/L].
    """
    return np.asarray(_at_least(0, ke=ke) * _at_least(0, Ag=Ag) / (_above(0, kperm=kperm) * _above(0, Cp=Cp)))


def clearance_vascular(kperm: ArrayLike, Ag: ArrayLike, auc: ArrayLike) -> Array:
    """Clearance modulus Ag/(kperm AUC): above 1, the dose is gone before it saturates the tissue [1].

    Parameters
    ----------
    kperm : extravasation [1/h]
    Ag : binding sites per tumour volume [nmol/L]
    auc : area under the plasma curve [nmol/L h]
    """
    return np.asarray(_at_least(0, Ag=Ag) / (_above(0, kperm=kperm) * _above(0, auc=auc)))


def thiele_spheroid(
    R: ArrayLike, D: ArrayLike, eps: ArrayLike, Ag: ArrayLike, ke: ArrayLike, Cs: ArrayLike, KD: ArrayLike
) -> Array:
    """Squared Thiele modulus ke R^2 (Ag/eps)/(D (Cs + KD)) of a nodule without vessels [1].

    Parameters
    ----------
    R : radius [um]
    D : diffusion coefficient in the tissue [cm2/s]
    eps : void fraction [1]
    Ag, Cs, KD : binding sites per tissue volume; free ligand at the surface; dissociation constant [nmol/L]
    ke : internalisation [1/h]
    """
    rate = _above(0, D=D) * _S_PER_H / (_above(0, R=R) * _CM_PER_UM) ** 2
    sites = _at_least(0, Ag=Ag) / _above(0, eps=eps)
    return np.asarray(_at_least(0, ke=ke) * sites / (rate * (_at_least(0, Cs=Cs) + _above(0, KD=KD))))


def clearance_spheroid(R: ArrayLike, D: ArrayLike, eps: ArrayLike, Ag: ArrayLike, auc: ArrayLike) -> Array:
    """Clearance modulus R^2 (Ag/eps)/(D AUC) of a nodule without vessels [1].

    Parameters
    ----------
    R : radius [um]
    D : diffusion coefficient in the tissue [cm2/s]
    eps : void fraction [1]
    Ag : binding sites per tissue volume [nmol/L]
    auc : area under the curve of free ligand at the surface [nmol/L h]
    """
    rate = _above(0, D=D) * _S_PER_H / (_above(0, R=R) * _CM_PER_UM) ** 2
    return np.asarray(_at_least(0, Ag=Ag) / _above(0, eps=eps) / (rate * _above(0, auc=auc)))


def front_depth(D: ArrayLike, eps: ArrayLike, Ag: ArrayLike, auc: ArrayLike) -> Array:
    """How far a saturating front has come from a flat surface, sqrt(2 D eps AUC/Ag) [um].

    The binding-site barrier in its limit of tight binding without internalisation (Graff & Wittrup 2003, Cancer Res
    63:1288): the depth knows the dose, not the affinity.

    Parameters
    ----------
    D : diffusion coefficient in the tissue [cm2/s]
    eps : void fraction [1]
    Ag : binding sites per tissue volume [nmol/L]
    auc : area under the curve of free ligand at the surface [nmol/L h]
    """
    square = 2.0 * _at_least(0, D=D) * _S_PER_H * _at_least(0, eps=eps) * _at_least(0, auc=auc) / _above(0, Ag=Ag)
    return np.asarray(np.sqrt(square) / _CM_PER_UM)


def law(name: str, wanted: tuple[str, ...], **values: ArrayLike) -> dict[str, Array]:
    """Numbers of a law file for many sizes at once, each in the unit the file declares.

    Parameters
    ----------
    name : file of `models/laws`, such as ``"law_schmidt_wittrup"`` [text]
    wanted : parameters to compute, such as ``("P_tumour", "eps")`` [text]
    **values : numbers in the declared units, scalars or arrays that broadcast, e.g. ``MW_size=[7, 150], fu=1``

    Raises
    ------
    ModelError
        A name is not a parameter of the law, a formula would be overwritten, or a number is missing.
    """
    model = _load(name)
    for given in (*values, *wanted):
        if given not in model.parameters:
            raise ModelError(
                f"{name}: no parameter {given!r}{did_you_mean(given, model.parameters)}; known: "
                f"{', '.join(model.parameters)}"
            )
    for given in values:
        if model.parameters[given].formula is not None:
            raise ModelError(f"{name}: {given} is a formula of the law; give what it is made of")
    known: dict[str, Array] = {
        n: np.asarray(values[n], dtype=float) * factor(p.unit) if n in values else np.asarray(p.canonical)
        for n, p in model.parameters.items()
        if p.formula is None
    }
    out: dict[str, Array] = {}
    for want in wanted:
        names, compute = _formula(name, want)
        missing = [n for n in names if np.any(np.isnan(known[n]))]
        if missing:
            raise ModelError(f"{name}: {want} needs {', '.join(missing)}; give {missing[0]}=...")
        out[want] = np.asarray(compute(*(known[n] for n in names)), dtype=float) / factor(model.parameters[want].unit)
    return out


def size_affinity_map(
    MW: ArrayLike,
    KD: ArrayLike,
    *,
    t: ArrayLike = 24.0,
    Ag: float = 150.0,
    ke: float = 0.057762265,
    plasma_volume: float = 2.0,
    clearance: ArrayLike | None = None,
    fu: float = 1.0,
    Rcap: float = 8.0,
    Rkrogh: float = 75.0,
    options: Mapping[str, float] | None = None,
) -> xr.Dataset:
    """Tumour uptake over size and affinity, in a mouse unless a plasma clearance is given.

    Parameters
    ----------
    MW : (s,) array, size as the molar mass of a globular protein [kDa]
    KD : (a,) array, dissociation constants [nmol/L]
    t : (m,) array or one time since injection [h]
    Ag : binding sites per tumour volume [nmol/L]
    ke : internalisation and loss of the bound (default: half-life 12 h) [1/h]
    plasma_volume : in which the dose starts [mL]
    clearance : (s,) array, rate constant of plasma clearance instead of the mouse's law [1/h]
    fu : share in plasma that is not bound to albumin [1]
    Rcap, Rkrogh : radius of a capillary and of the tissue it supplies [um]
    options : other parameters of the law of permeability, e.g. ``{"partition_twice": 0}``

    Returns
    -------
    xarray.Dataset
        ``uptake`` (MW, KD, t) in %ID per mL of tumour, and by MW what made it: ``P``, ``eps``, ``kperm``, ``kel`` and
        ``retention``, the KD beyond which binding tighter adds little.

    Raises
    ------
    ModelError
        A size lies outside the laws, or a parameter is negative.
    """
    size = np.atleast_1d(_above(0, MW=MW))
    affinity, time = np.atleast_1d(_above(0, KD=KD)), np.atleast_1d(_at_least(0, t=t))
    got = law("law_schmidt_wittrup", ("P_tumour", "eps", "Rh"), MW_size=size, fu=fu, **(options or {}))
    if clearance is None:
        kel = law("law_plasma_clearance", ("kel_mouse",), MW_size=size)["kel_mouse"]
        if np.any(kel <= 0):
            bad = size[np.argmax(kel <= 0)]
            raise ModelError(
                f"size-affinity map: the clearance law of the mouse ends below {bad:g} kDa; give clearance=... [1/h]"
            )
    else:
        kel = np.broadcast_to(_at_least(0, clearance=clearance), size.shape)
    kperm = exchange_rate(got["P_tumour"], Rcap, Rkrogh)
    plasma = Plasma(np.asarray([100.0 / plasma_volume]), kel[:, None, None, None])
    uptake = tumour_uptake(
        time, plasma, kperm=kperm[:, None, None], eps=got["eps"][:, None, None], KD=affinity[:, None], Ag=Ag, ke=ke
    )
    by_size = {"P": (got["P_tumour"], "cm/s"), "eps": (got["eps"], "1"), "Rh": (got["Rh"], "nm")}
    by_size |= {"kperm": (kperm, "1/h"), "kel": (kel, "1/h")}
    by_size |= {"retention": (retention_affinity(kperm, Ag, ke), "nmol/L")}
    return xr.Dataset(
        {
            "uptake": (("MW", "KD", "t"), uptake, {"unit": "%ID/mL"}),
            **{name: ("MW", values, {"unit": unit}) for name, (values, unit) in by_size.items()},
        },
        coords={
            "MW": ("MW", size, {"unit": "kg/mol"}),
            "KD": ("KD", affinity, {"unit": "nmol/L"}),
            "t": ("t", time, {"unit": "h"}),
        },
        attrs={"Ag": f"{Ag:g} nmol/L", "ke": f"{ke:g} 1/h", "status": "predicted", "fu": fu} | dict(options or {}),
    )


@lru_cache(maxsize=16)
def _load(name: str) -> Model:
    return load_model(name)


@lru_cache(maxsize=64)
def _formula(name: str, wanted: str) -> tuple[tuple[str, ...], Any]:
    """Primary parameters that a parameter is made of, and the function of their canonical values."""
    model = _load(name)
    expression = model.resolved.get(symbol(wanted), symbol(wanted))
    names = tuple(n for n in model.primary if symbol(n) in expression.free_symbols)
    return names, sp.lambdify([symbol(n) for n in names], expression, "numpy", cse=True)


def _at_least(bound: float, **values: ArrayLike) -> Array:
    return _checked(bound, False, values)


def _above(bound: float, **values: ArrayLike) -> Array:
    return _checked(bound, True, values)


def _checked(bound: float, strict: bool, values: Mapping[str, ArrayLike]) -> Array:
    ((name, value),) = values.items()
    array = np.asarray(value, dtype=float)
    good = array > bound if strict else array >= bound
    if not np.all(good):  # also where it is not a number
        found = array[~good].flat[0]
        raise ModelError(
            f"size and affinity: {name} = {found:g}; allowed: {'above' if strict else 'at least'} {bound:g}"
        )
    return array
