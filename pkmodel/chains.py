"""Decay chains: which daughters get states of their own, where they are born, and what becomes of them there.

A daughter that lives long enough to move is followed as atoms. Per place dN_d/dt = sum_p w_pd lambda_p N_p -
lambda_d N_d + transport (Bateman, Proc Camb Phil Soc 1910;15:423; by organ: Hamacher & Sgouros 1999,
doi:10.1118/1.598788), with w_pd the branching product of all paths from p to d through nuclides that do not move.
At birth an atom stays on the ligand or leaves it: alpha recoil (about 100 keV) breaks any bond, a beta decay only some.

Every other daughter E is in secular equilibrium with the nuclides that feed it: A_E = sum_p w_pE A_p. Over all time
this is exact, as each decay of p brings w_pE decays of E. At any one time activities come early, by the mean lives of
the nuclides passed over: where ln A changes at a rate r, the relative error is r times that lag to first order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import sympy as sp

from .errors import ModelError, did_you_mean
from .expressions import check_name, symbol
from .model import Model, Parameter
from .nuclides import Nuclide, canonical_name, nuclide
from .units import dimension

IN_PLACE, WITH_LIGAND, LEFT_OUT = "in place", "with ligand", "left out"
LAMBDA = "lambda_phys"  # decay constant of the labelled nuclide [1/h]
MOLAR_ACTIVITY = "mbq_per_nmol"  # activity of one nmol of it [MBq/nmol]
REST = "*"  # key of everything that is not named
MOVES = 1.0 / 60.0  # [h]; blood goes round once in 49 s: 5.3 L at 6.5 L/min (ICRP Publication 89, 2002)
_SHARE = 100.0  # a daughter that lives more than a hundredth of the labelled nuclide is never in equilibrium with it


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What becomes of a daughter that leaves the ligand when it is born.

    Parameters
    ----------
    fraction : share of the atoms born on the ligand that leave it; the others stay chelated and go where the ligand
        goes. One number, or {compartment or region: number}, ``"*"`` for the others. Exactly 0 or 1 is a fact; any
        other number becomes a parameter ``released_<nuclide>`` that a fit may free [1]
    model : kinetics of the free daughter: linear, in amounts [nmol], without decay; parameters of one name are the
        same parameter, as in `join`. Without a model, freed atoms decay where they were freed
    into : where in `model` they appear: {compartment or region in which they were freed: compartment of `model`, or
        ``"in place"``}, ``"*"`` for the others [text]
    source : where fraction and kinetics come from, written into the parameters [text]
    """

    fraction: float | Mapping[str, float]
    model: Model | None = None
    into: Mapping[str, str] = field(default_factory=dict)
    source: str = ""


Daughters = str | Mapping[str, str | Release]


@dataclass(frozen=True, slots=True)
class Scheme:
    """The decay scheme of a nuclide, divided into what is followed and what is in equilibrium.

    `followed` begins with the nuclide itself and has parents before daughters. ``feeds[p][d]`` is the number of atoms
    of d, followed, per decay of p; ``short[p][e]`` the number of decays of e, not followed, per decay of p. ``lag`` is
    the longest sum of mean lives passed over on the way to a nuclide [h].
    """

    followed: tuple[str, ...]
    feeds: Mapping[str, Mapping[str, sp.Rational]]
    short: Mapping[str, Mapping[str, sp.Rational]]
    lag: Mapping[str, float]


def tag(name: str) -> str:
    """Bi-213 -> Bi213, as part of a name."""
    return name.replace("-", "")


def constants(n: Nuclide, daughter: bool) -> dict[str, Parameter]:
    """Decay constant and molar activity of a nuclide, named after it where it is a daughter."""
    suffix = f"_{tag(n.name)}"
    each = (
        (f"lambda{suffix}" if daughter else LAMBDA, "1/h", n.decay_constant, "decay constant"),
        (MOLAR_ACTIVITY + suffix * daughter, "MBq/nmol", n.mbq_per_nmol, "activity of one nmol"),
    )
    return {
        name: Parameter(
            name=name,
            unit=unit,
            value=value,
            meaning=f"{what} of {n.name}",
            source=n.source,
            status="physical",
            fixed=True,
        )
        for name, unit, value, what in each
    }


def decay_scheme(parent: str | Nuclide, moves: float = MOVES, left_out: frozenset[str] = frozenset()) -> Scheme:
    """Walk the chain of a nuclide down to what is stable or lives longer than 1000 years.

    Parameters
    ----------
    parent : str or Nuclide [text]
    moves : half-life from which a daughter is followed; less where the parent itself is short-lived [h]
    left_out : daughters that end their branch as if stable [text]
    """
    first = nuclide(parent)
    moves = min(moves, first.half_life / _SHARE)
    feeds: dict[str, dict[str, sp.Rational]] = {}
    short: dict[str, dict[str, sp.Rational]] = {}
    lag: dict[str, float] = {first.name: 0.0}
    after: list[str] = []

    def walk(anchor: str, current: str, weight: sp.Rational, late: float) -> None:
        for daughter, share in _shares(nuclide(current)):
            if daughter in left_out:
                continue
            passed_over = nuclide(daughter).half_life < moves
            known = (short if passed_over else feeds)[anchor]
            known[daughter] = known.get(daughter, sp.Integer(0)) + weight * share
            after_it = late + passed_over / nuclide(daughter).decay_constant
            lag[daughter] = max(lag.get(daughter, 0.0), after_it)
            if passed_over:
                walk(anchor, daughter, weight * share, after_it)

    def visit(name: str) -> None:
        if name not in feeds:
            feeds[name], short[name] = {}, {}
            walk(name, name, sp.Integer(1), lag[name])
            for daughter in feeds[name]:
                visit(daughter)
            after.append(name)

    visit(first.name)
    return Scheme(tuple(reversed(after)), feeds, short, lag)


def _shares(n: Nuclide) -> list[tuple[str, sp.Rational]]:
    """Radioactive daughters with the share of decays that lead there; rounded tables may sum to a little over one."""
    exact = [(b, sp.Rational(str(b.fraction))) for b in n.branches]
    whole = max(sp.Integer(1), sum((f for _, f in exact), sp.Integer(0)))
    return [(b.daughter, f / whole) for b, f in exact if b.daughter_state == "listed" and f > 0]


@dataclass(frozen=True, slots=True)
class Chain:
    """A decay scheme and what the user said of each followed daughter."""

    scheme: Scheme
    releases: Mapping[str, Release]
    who: str

    def fraction(self, name: str, place: str, region: str) -> sp.Expr:
        """Share of the atoms of a nuclide, born on ligand in a compartment, that leave it."""
        given = self.releases[name].fraction
        key, value = REST, given
        if isinstance(given, Mapping):
            key = _look_up(given, place, region)
            if not key:
                raise ModelError(
                    f"{self.who}: {name}: how much is released in {place!r} is not said; found {', '.join(given)}; "
                    f"add {place!r} or '*' to fraction"
                )
            value = given[key]
        assert isinstance(value, int | float)
        if not 0 <= value <= 1:
            raise ModelError(f"{self.who}: {name}: the released fraction is {value:g}; it must be from 0 to 1")
        return sp.Integer(int(value)) if value in (0, 1) else symbol(self._released(name, key))

    def goes(self, name: str, place: str, region: str) -> str:
        """Compartment of the free model where a freed atom appears; empty where it stays."""
        r = self.releases[name]
        if r.model is None:
            return ""
        key = _look_up(r.into, place, region)
        if not key:
            raise ModelError(
                f"{self.who}: {name}: where it goes when it is free in {place!r} is not said; add {place!r} or '*' to "
                f"into, with one of: {', '.join(r.model.compartments)}, or {IN_PLACE!r}"
            )
        target = r.into[key]
        if target == IN_PLACE:
            return ""
        if target not in r.model.compartments:
            raise ModelError(
                f"{self.who}: {name}: {target!r} is not a compartment of {r.model.who}"
                f"{did_you_mean(target, r.model.compartments)}; known: {', '.join(r.model.compartments)}"
            )
        return target

    @staticmethod
    def _released(name: str, key: str) -> str:
        return f"released_{tag(name)}" + ("" if key == REST else f"_{key}")

    def parameters(self) -> dict[str, Parameter]:
        """One parameter for each fraction that is neither 0 nor 1."""
        out: dict[str, Parameter] = {}
        for name, r in self.releases.items():
            each = r.fraction if isinstance(r.fraction, Mapping) else {REST: r.fraction}
            for key, value in each.items():
                if value in (0, 1):
                    continue
                new = check_name(self._released(name, key), f"{self.who}: released fraction of {name} in {key!r}")
                where = "" if key == REST else f" in {key}"
                out[new] = Parameter(
                    name=new,
                    unit="1",
                    value=float(value),
                    lower=0.0,
                    upper=1.0,
                    meaning=f"share of {name} born on ligand{where} that leaves it",
                    source=r.source,
                )
        return out


def _look_up(table: Mapping[str, object], place: str, region: str) -> str:
    return next((k for k in (place, region, REST) if k and k in table), "")


def plan_chain(model: Model, parent: Nuclide, daughters: Daughters, moves: float) -> Chain:
    """Read what the user says of the daughters.

    Parameters
    ----------
    model : the model to be labelled
    parent : the nuclide it is labelled with
    daughters : as in `label`
    moves : half-life from which a daughter is followed [h]

    Raises
    ------
    ModelError
        A daughter is not spoken of, a name is not one of the chain, or a free model cannot be used.
    """
    who = f"{model.who}: {parent.name}"
    said = {REST: daughters} if isinstance(daughters, str) else dict(daughters)
    said = {k if k == REST else canonical_name(k): v for k, v in said.items()}
    out = frozenset(k for k, v in said.items() if v == LEFT_OUT)
    known = decay_scheme(parent, moves).followed[1:]
    scheme = decay_scheme(parent, moves, out)
    if unknown := [k for k in said if k != REST and k not in known]:
        raise ModelError(
            f"{who}: {', '.join(unknown)}: no daughter that moves (half-life from {moves * 60:g} min); known: "
            f"{', '.join(known) or 'none'}"
        )
    releases: dict[str, Release] = {}
    for name in scheme.followed[1:]:
        fate = said.get(name, said.get(REST))
        if fate is None:
            raise ModelError(
                f"{who}: what becomes of {name} (half-life {nuclide(name).half_life:.3g} h) is not said; allowed: "
                f"Release(fraction=..., model=..., into=...), {IN_PLACE!r} (freed, decays where it is born), "
                f"{WITH_LIGAND!r}, {LEFT_OUT!r} (not counted); '*' speaks of all the others"
            )
        if fate == LEFT_OUT:
            raise ModelError(
                f"{who}: {LEFT_OUT!r} needs the name of a daughter; to leave out all, do not set daughters"
            )
        if fate in (IN_PLACE, WITH_LIGAND):
            fate = Release(fraction=1.0 if fate == IN_PLACE else 0.0)
        if not isinstance(fate, Release):
            raise ModelError(
                f"{who}: {name}: {fate!r} is not known; allowed: a Release, {IN_PLACE!r}, {WITH_LIGAND!r}, {LEFT_OUT!r}"
            )
        if fate.model is not None:
            _refuse_free_model(fate.model, f"{who}: free {name}")
        elif fate.into:
            raise ModelError(f"{who}: {name}: 'into' needs the model whose compartments it names")
        releases[name] = fate
    _refuse_unknown_places(model, releases, who)
    return Chain(scheme, releases, who)


def _refuse_unknown_places(model: Model, releases: Mapping[str, Release], who: str) -> None:
    """A mistyped place would be taken as one of the others."""
    ligand = {p for c in model.compartments.values() for p in (c.name, c.region) if p}
    free = [c for r in releases.values() if r.model for c in r.model.compartments.values()]
    anywhere = ligand | {p for c in free for p in (c.name, c.region) if p}
    for name, r in releases.items():
        fractions = r.fraction if isinstance(r.fraction, Mapping) else {}
        for what, keys, known in (("fraction", fractions, ligand), ("into", r.into, anywhere)):
            if unknown := [k for k in keys if k != REST and k not in known]:
                hint = did_you_mean(unknown[0], known)
                raise ModelError(
                    f"{who}: {name}: {what}: {unknown[0]!r} is no compartment or region{hint}; known: "
                    f"{', '.join(sorted(known))}"
                )


def _refuse_free_model(free: Model, who: str) -> None:
    """A trace of free atoms: nothing saturates, nothing drives it, and decay is added here."""
    if free.nuclide:
        raise ModelError(f"{who}: {free.who} is labelled already; give the kinetics without decay")
    if free.inputs:
        raise ModelError(f"{who}: {free.who} is driven by {', '.join(free.inputs)}; a free daughter has no such input")
    states = [symbol(c) for c in free.compartments]
    for c in free.compartments.values():
        if dimension(c.unit) != dimension("nmol") or c.kind != "ligand" or c.initial != 0:
            raise ModelError(f"{who}: {free.who}: compartment {c.name} must be an empty amount in nmol")
    for f in free.flows:
        rate = f.rate.xreplace(free.resolved)
        if rate.subs(dict.fromkeys(states, 0)) != 0 or any(set(states) & sp.diff(rate, s).free_symbols for s in states):
            raise ModelError(f"{who}: {free.who}: flow {f} is not linear; a free daughter is a trace of atoms")
