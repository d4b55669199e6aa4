"""The spatial twin of a compartment tumour: the same wall, target and fate, with the interstitium in shells.

`twin` takes a model that has a tumour of the layers ``tumour_perfused`` (and any other) and writes each compartment
behind the vessel wall once per shell, with diffusion between neighbours: conservative finite volumes, widths that grow
away from where ligand enters (method of lines). Nothing else changes: parameters keep their names, so the two
resolutions are compared by simulating both. Shapes: a Krogh cylinder around its capillary, a sphere fed at its surface
(a nodule without vessels), a slab fed at one face.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import sympy as sp

from .errors import ModelError
from .expressions import parse, symbol
from .model import Compartment, Flow, Model, Parameter
from .requirements import number
from .units import factor

if TYPE_CHECKING:
    import xarray as xr

Shape = Literal["cylinder", "sphere", "slab"]
_POWER: dict[str, int] = {"slab": 0, "cylinder": 1, "sphere": 2}  # area goes with this power of the radius
_DIGITS = 15  # of a share of the volume; shares are exact fractions that add up to one
_EXTENSIVE = ("V", "Vi_acc")  # what a shell has its share of


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Shells from where ligand enters (the first) to where nothing passes (the last).

    Parameters
    ----------
    shape : cylinder, sphere or slab [text]
    edges : (n+1,) array, distance of the shells' faces from where ligand enters, from 0 [um]
    entry : radius at which ligand enters: of the capillary, or of the sphere; 0 for a slab [um]
    """

    shape: Shape
    edges: npt.NDArray[np.float64]
    entry: float

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """Middles of the shells, as distance from where ligand enters, (n,) array [um]."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    @property
    def radii(self) -> npt.NDArray[np.float64]:
        """The same as radius from the axis or centre (for a slab: depth), (n,) array [um]."""
        return self._radius(self.centres)

    def _radius(self, depth: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return self.entry - depth if self.shape == "sphere" else self.entry + depth

    @property
    def shares(self) -> npt.NDArray[np.float64]:
        """Share of the volume in each shell, (n,) array [1]."""
        power = _POWER[self.shape] + 1
        filled = np.abs(np.diff(self._radius(self.edges) ** power))
        return np.asarray(filled / filled.sum())

    @property
    def faces(self) -> npt.NDArray[np.float64]:
        """Area over distance of each face, per volume: first the entry to the first middle, then the n - 1 inside.

        (n,) array [1/um2]
        """
        power = _POWER[self.shape]
        radius = self._radius(self.edges)
        volume = float(np.abs(radius[-1] ** (power + 1) - radius[0] ** (power + 1))) / (power + 1)
        nodes = np.concatenate([[0.0], self.centres])
        return np.asarray(radius[:-1] ** power / np.diff(nodes) / volume)


def grid(shape: Shape, depth: float, shells: int, *, entry: float = 0.0, growth: float = 1.1) -> Grid:
    """Shells whose widths grow by one factor from where ligand enters.

    Parameters
    ----------
    shape : cylinder, sphere or slab [text]
    depth : of the tissue: Rkrogh - Rcap, the radius of a sphere, the thickness of a slab [um]
    shells : how many, at least 2 [1]
    entry : radius of the capillary (cylinder) or of the sphere [um]
    growth : width of a shell over that of the one before [1]

    Raises
    ------
    ModelError
        The shape is not known, or a number cannot be meant.
    """
    if shape not in _POWER:
        raise ModelError(f"spatial tumour: shape {shape!r} is not known; allowed: {', '.join(_POWER)}")
    if shells < 2 or not depth > 0.0 or not growth > 0.0:
        raise ModelError(
            f"spatial tumour: found {shells} shells, depth {depth:g} um, growth {growth:g}; at least 2 shells, depth "
            "and growth above zero"
        )
    if (shape == "cylinder" and not entry > 0.0) or (shape == "sphere" and not np.isclose(entry, depth)):
        place = "the radius of its capillary" if shape == "cylinder" else "its surface"
        raise ModelError(
            f"spatial tumour: a {shape} is entered at {place}, found {entry:g} um with a depth of {depth:g} um"
        )
    widths = growth ** np.arange(shells)
    edges = np.concatenate([[0.0], np.cumsum(widths)]) * (depth / widths.sum())
    edges[-1] = depth
    return Grid(shape=shape, edges=edges, entry=float(entry))


@dataclass(frozen=True, slots=True, kw_only=True)
class SpatialTumour:
    """A model with one tumour in shells, and where the shells lie."""

    model: Model
    organ: str
    grid: Grid
    parts: tuple[str, ...]  # compartments that were written once per shell, without the organ's name

    def profile(self, run: xr.Dataset, parts: str | tuple[str, ...] = "", suffix: str = "") -> xr.DataArray:
        """Concentration in each shell over time: how far the ligand comes.

        Parameters
        ----------
        run : of `pkmodel.simulate` with this model, or with this model labelled
        parts : ``"i"`` (free), ``"b"`` (bound), ``"n"`` (inside cells), several, or all by default [text]
        suffix : of a labelled model's states, such as ``"_hot"`` [text]

        Returns
        -------
        xarray.DataArray
            Amount per volume of tumour over (radius, time); radius from the axis or centre, a slab's depth [um].

        Raises
        ------
        ModelError
            There is no such part.
        """
        import xarray as xr

        wanted = self.parts if not parts else (parts,) if isinstance(parts, str) else parts
        if unknown := [p for p in wanted if p not in self.parts]:
            raise ModelError(f"profile of {self.organ}: no part {unknown[0]!r}; known: {', '.join(self.parts)}")
        shares = self.grid.shares
        volume = float(_value(self.model, f"V_{self.organ}"))
        rows = []
        for k, share in enumerate(shares):
            amounts = [run[f"state_{shell_name(p, self.organ, k)}{suffix}"] for p in wanted]
            rows.append(sum(a.values for a in amounts) / (share * volume))
        unit = run[f"state_{shell_name(wanted[0], self.organ, 0)}{suffix}"].attrs["units"]
        return xr.DataArray(
            np.array(rows), {"radius": self.grid.radii, "time": run["time"].values}, ("radius", "time"),
            attrs={"units": f"{unit}/L"},
        )  # fmt: skip


def shell_name(part: str, organ: str, k: int) -> str:
    """Name of a compartment in shell k (from 0)."""
    return f"{part}_{organ}_s{k + 1}"


def twin(
    model: Model, organ: str = "tumour", *, shells: int = 24, shape: Shape = "cylinder", depth: float | None = None,
    growth: float = 1.1,
) -> SpatialTumour:  # fmt: skip
    """The same model with one of its tumours in shells.

    Parameters
    ----------
    model : with a tumour of the layer ``tumour_perfused``, not labelled
    organ : the tumour [text]
    shells : how many [1]
    shape : cylinder (Rcap and Rkrogh of the model), sphere or slab [text]
    depth : radius of a sphere or thickness of a slab; for a cylinder the model says it [um]
    growth : width of a shell over that of the one before [1]

    Returns
    -------
    SpatialTumour
        Its model goes through `pkmodel.label` and `pkmodel.simulate`. Rcap and Rkrogh are fixed in it: make the twin
        again after changing them.

    Raises
    ------
    ModelError
        The model has no such tumour, is labelled, or the shape lacks its size.
    """
    who = f"{model.who}: spatial twin of {organ}"
    needed = [f"{n}_{organ}" for n in ("v", "i", "PS_tissue", "DD0", "V", "Vi_acc", "Rcap", "Rkrogh")]
    if absent := [n for n in needed if n not in model.compartments and n not in model.parameters]:
        raise ModelError(f"{who}: no {', '.join(absent)}; it needs a tumour made of the layer tumour_perfused")
    if model.nuclide:
        raise ModelError(f"{who}: the model is labelled with {model.nuclide}; make the twin first, label it then")
    cap, krogh = (_value(model, f"{n}_{organ}") / factor("um") for n in ("Rcap", "Rkrogh"))
    if shape == "cylinder":
        if depth is not None:
            raise ModelError(f"{who}: a cylinder's depth is Rkrogh - Rcap of the model; change those")
        lie = grid(shape, krogh - cap, shells, entry=cap, growth=growth)
    elif depth is None:
        raise ModelError(f"{who}: a {shape} needs depth= [um]")
    else:
        lie = grid(shape, depth, shells, entry=depth if shape == "sphere" else 0.0, growth=growth)
    return SpatialTumour(model=_written(model, organ, lie, krogh), organ=organ, grid=lie, parts=_parts(model, organ))


def _value(model: Model, name: str) -> float:
    found = number(name, model.parameters, {})
    if found is None:
        raise ModelError(f"{model.who}: {name} has no value; give one with model.replace({name}=...)")
    return float(found)


def _parts(model: Model, organ: str) -> tuple[str, ...]:
    """Compartments of the tumour behind the vessel wall, without the organ's name."""
    inside = [n for n, c in model.compartments.items() if c.region == organ and n != f"v_{organ}"]
    return tuple(n.removesuffix(f"_{organ}") for n in inside)


def _written(model: Model, organ: str, lie: Grid, krogh: float) -> Model:
    """The model with every part of the tumour once per shell and diffusion between them."""
    parts = _parts(model, organ)
    old = {f"{p}_{organ}": p for p in parts}
    shares = _exact(lie.shares)
    n = len(shares)
    scale = krogh**2  # faces are written per Rkrogh^2, so that the parameter below is a rate
    faces = [sp.Rational(round(float(g) * scale * 10**12), 10**12) for g in lie.faces]

    def swap(k: int) -> dict[sp.Symbol, sp.Expr]:
        own = {symbol(c): symbol(shell_name(p, organ, k)) for c, p in old.items()}
        return own | {symbol(f"{e}_{organ}"): shares[k] * symbol(f"{e}_{organ}") for e in _EXTENSIVE}

    def end(name: str, k: int) -> str:
        return shell_name(old[name], organ, k) if name in old else name

    compartments: dict[str, Compartment] = {}
    for name, c in model.compartments.items():
        if name not in old:
            compartments[name] = c
            continue
        for k in range(n):
            receptor = None if c.receptor is None else c.receptor.xreplace(swap(k))
            new = shell_name(old[name], organ, k)
            compartments[new] = replace(c, name=new, initial=c.initial * shares[k], receptor=receptor)
    flows: list[Flow] = []
    for f in model.flows:
        touches = f.source in old or f.target in old
        # what crosses the vessel wall, and the fluid that leaves, meet the first shell; all else happens in every one
        once = f.carrier is not None or f"v_{organ}" in (f.source, f.target)
        for k in range(1 if once else n) if touches else ():
            flows.append(replace(f, source=end(f.source, k), target=end(f.target, k), rate=f.rate.xreplace(swap(k))))
        if not touches:
            flows.append(f)
    speed = symbol(f"diffusing_{organ}")
    for k in range(n - 1):
        a, b = (shell_name("i", organ, j) for j in (k, k + 1))
        rate = speed * faces[k + 1] * (symbol(a) / shares[k] - symbol(b) / shares[k + 1])
        flows.append(Flow(source=a, target=b, rate=rate))
    whole = {symbol(c): sp.Add(*(symbol(shell_name(p, organ, k)) for k in range(n))) for c, p in old.items()}
    observables = {m: replace(o, expression=o.expression.xreplace(whole)) for m, o in model.observables.items()}
    parameters = dict(model.parameters) | _diffusion(model, organ, faces[0])
    parameters |= {m: replace(parameters[m], fixed=True) for m in (f"Rcap_{organ}", f"Rkrogh_{organ}")}
    return replace(
        model, name=f"{model.name}_spatial", compartments=compartments, flows=tuple(flows), parameters=parameters,
        observables=observables, checks=(), origin="",
    )  # fmt: skip


def _diffusion(model: Model, organ: str, first: sp.Expr) -> dict[str, Parameter]:
    """Diffusion as a rate, and the way from the wall to the middle of the first shell in place of the mean's."""
    names = list(model.parameters)
    speed = Parameter(
        name=f"diffusing_{organ}",
        unit="1/h",
        formula=parse(f"Dfree*DD0_{organ}/Rkrogh_{organ}**2", names, f"spatial twin of {organ}"),
        meaning="diffusion in the tissue per Rkrogh squared",
        status="predicted",
    )
    near = replace(
        model.parameters[f"PS_tissue_{organ}"],
        formula=first * symbol(speed.name) * symbol(f"Vi_acc_{organ}"),
        value=None,
        meaning="conductance of diffusion from the vessel wall to the middle of the first shell",
    )
    return {speed.name: speed, near.name: near}


def _exact(shares: npt.NDArray[np.float64]) -> list[sp.Rational]:
    """Shares as fractions that add up to one, so that proofs about the model stay exact."""
    rough = [sp.Rational(round(float(s) * 10**_DIGITS), 10**_DIGITS) for s in shares[:-1]]
    return [*rough, 1 - sum(rough)]
