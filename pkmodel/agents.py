"""A radiopharmaceutical as its file has it: the model, labelled, and how it is given.

The ``tracer`` table of a model file says nuclide, activity, amount, route, schedule, and what becomes of the daughters
of an alpha emitter; `load_agent` labels accordingly, `regimen_of` reads the doses. A model stays what the ligand does:
with another nuclide it is the same file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from .assembly import load_model
from .chains import IN_PLACE, LEFT_OUT, MOVES, REST, WITH_LIGAND, Daughters, Release, decay_scheme, tag
from .errors import ModelError, did_you_mean
from .labelling import label
from .model import Model, Parameter
from .nuclides import canonical_name, nuclide
from .regimen import Regimen
from .units import dimension, quantity

FREE = "free"  # daughters = "free": as tables/daughters.toml says of the nuclide
_TRACER = ("nuclide", "activity", "amount", "route", "schedule", "duration", "cold", "daughters", "moves")
_MOVES = "moves"
_RELEASE = ("fraction", "model", "into", "source", "status")
_EXAMPLE = 'tracer = { nuclide = "Lu-177", activity = "7.4 GBq", amount = "100 nmol", route = "injection" }'


def load_agent(
    name: str | Path | Model, nuclide_name: str = "", *, cold: bool | None = None, daughters: Any = None
) -> Model:
    """Read a model by name and label it as its ``tracer`` says.

    Parameters
    ----------
    name : as for `load_model`, or a model that has a tracer already [text or model]
    nuclide_name : another nuclide than the file's; daughters then are as ``"free"`` has them [text]
    cold : whether unlabelled ligand is followed, which competes for receptors; default: as the tracer says, else
        where it gives an amount
    daughters : instead of the tracer's: in the words of a file, or of `label`; ``"free"`` is what
        ``tables/daughters.toml`` says of the nuclide [text or table]

    Returns
    -------
    Model
        Labelled; `regimen_of` reads from it how it is given.

    Examples
    --------
    >>> load_agent("ra223_chloride").nuclide
    'Ra-223'

    Raises
    ------
    LibraryError
        There is no such model.
    ModelError
        There is no tracer, or a word of it is not known.
    NuclideError
        The nuclide is unknown.
    """
    model = name if isinstance(name, Model) else load_model(name)
    tracer = _tracer(model)
    own = nuclide(str(tracer["nuclide"])).name if "nuclide" in tracer else ""
    chosen = nuclide(nuclide_name).name if nuclide_name else own
    if not chosen:
        raise ModelError(f'{model.who}: its tracer names no nuclide; say load_agent({model.name!r}, "Lu-177")')
    said = daughters
    if said is None:
        said = tracer.get("daughters") if chosen == own else FREE if chosen in _table() else None
    usual = _table().get(chosen, {}).get(_MOVES, MOVES) if said == FREE else MOVES
    moves = tracer.get(_MOVES, usual)
    if cold is None:
        cold = bool(tracer.get("cold", "amount" in tracer))
    hot = label(model, chosen, cold, daughters=read_daughters(said, chosen, model.who, moves), moves=moves)
    return replace(hot, tracer={**tracer, "nuclide": chosen}, parameters=_trusted(hot, _said(said, chosen)))


def regimen_of(model: Model) -> Regimen:
    """How an agent is given, as its ``tracer`` says: activity, amount, duration, schedule and route.

    Parameters
    ----------
    model : with a tracer, labelled or not

    Examples
    --------
    >>> regimen_of(load_agent("ra223_chloride")).activity
    21.0

    Raises
    ------
    ModelError
        There is no tracer, or it gives neither an activity nor an amount.
    SimulationError, UnitError
        A word does not read as a schedule or a quantity.
    """
    tracer = _tracer(model)
    dose = tracer.get("activity", tracer.get("amount"))
    if dose is None:
        raise ModelError(f"{model.who}: its tracer gives neither activity nor amount; write for example {_EXAMPLE}")
    over = f" over {tracer['duration']}" if "duration" in tracer else ""
    amount = tracer.get("amount") if "activity" in tracer else None
    return Regimen(
        f"{dose}{over} {tracer.get('schedule', 'once')}",
        nuclide=str(tracer.get("nuclide", "")),
        amount=amount,
        into=str(tracer.get("route", "")),
    )


def read_daughters(said: Any, parent: str, who: str = "daughters", moves: float | str = MOVES) -> Daughters | None:
    """Daughters in the words of a file, as `label` takes them.

    Parameters
    ----------
    said : None (not followed), one word for all, or {daughter: a word, a `Release`, or a table with fraction, model
        (a name), into (one compartment, or {region: compartment}) and source} [text or table]
    parent : the labelled nuclide [text]
    who : whose they are, for messages [text]
    moves : half-life from which a daughter is followed [h, or text]

    Raises
    ------
    ModelError
        A word is not known, or nothing is known of the nuclide's free daughters.
    """
    if said is None:
        return None
    if said == FREE:
        known = _table()
        if parent not in known:
            raise ModelError(
                f"{who}: what free daughters of {parent} do is not in the table{did_you_mean(parent, known)}; known: "
                f"{', '.join(known)}; give daughters = {{ ... }}"
            )
        limit = moves
        if isinstance(limit, str):
            read = quantity(limit, f"{who}: moves")
            if read.dimension != dimension("h"):
                raise ModelError(f"{who}: moves = {moves!r} is no time; write for example '1 min'")
            limit = read.value
        followed = decay_scheme(parent, limit).followed
        said = {d: fate for d, fate in known[parent].items() if d in followed}
    if isinstance(said, str):
        return said
    if not isinstance(said, Mapping):
        raise ModelError(f"{who}: daughters are a word or a table, found {said!r}")
    return {str(d): fate if isinstance(fate, Release) else _fate(fate, f"{who}: {d}") for d, fate in said.items()}


def _said(said: Any, parent: str) -> Mapping[str, Any]:
    """The words on each daughter, none where there are no words on each."""
    words = _table()[parent] if said == FREE else said
    return words if isinstance(words, Mapping) else {}


def _trusted(hot: Model, said: Mapping[str, Any]) -> dict[str, Parameter]:
    """Parameters with the status that a file gives to a released fraction."""
    out = dict(hot.parameters)
    for daughter, fate in said.items():
        if isinstance(fate, Mapping) and "status" in fate:
            stem = f"released_{tag(canonical_name(daughter))}"
            out |= {
                n: replace(p, status=fate["status"]) for n, p in out.items() if n == stem or n.startswith(f"{stem}_")
            }
    return out


def _fate(said: Any, who: str) -> str | Release:
    """One daughter's table as a `Release`."""
    if isinstance(said, str):
        return said
    if not isinstance(said, Mapping) or "fraction" not in said:
        raise ModelError(
            f"{who}: found {said!r}; allowed: {IN_PLACE!r}, {WITH_LIGAND!r}, {LEFT_OUT!r}, or a table such as "
            '{ fraction = 1.0, model = "ion_bismuth", into = "blood_Bi" }'
        )
    for key in said:
        if key not in _RELEASE:
            raise ModelError(
                f"{who}: {key!r} is not known{did_you_mean(key, _RELEASE)}; allowed: {', '.join(_RELEASE)}"
            )
    into = said.get("into", {})
    return Release(
        fraction=said["fraction"],
        model=load_model(said["model"]) if "model" in said else None,
        into={REST: into} if isinstance(into, str) else dict(into),
        source=str(said.get("source", "")),
    )


def _tracer(model: Model) -> Mapping[str, Any]:
    """The tracer of a model, its words checked."""
    if not model.tracer:
        raise ModelError(
            f"{model.who}: no tracer, so nothing says with what it is labelled and how it is given; add {_EXAMPLE}, "
            "or use label(model, nuclide)"
        )
    for key in model.tracer:
        if key not in _TRACER:
            hint = did_you_mean(key, _TRACER)
            raise ModelError(f"{model.who}: tracer: {key!r} is not known{hint}; allowed: {', '.join(_TRACER)}")
    return model.tracer


@cache
def _table() -> Mapping[str, Mapping[str, Any]]:
    """What is said of the free daughters of each nuclide."""
    text = (files("pkmodel") / "tables" / "daughters.toml").read_text(encoding="utf-8")
    return {
        canonical_name(n): {d if d == _MOVES else canonical_name(d): fate for d, fate in said.items()}
        for n, said in tomllib.loads(text).items()
    }
