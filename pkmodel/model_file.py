"""Models as text: TOML or a plain dictionary to `Model`, and back. Reading one never runs code.

A dictionary in a notebook and a file on disk say the same thing in the same words, and both may use the short
forms: a parameter ``"0.30 L/h"``, a compartment ``"nmol"``, a flow ``"plasma -> free: PS*plasma/V"``, an
observable ``"free + bound"``.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

import sympy as sp

from .dimensions import infer_observable_units
from .errors import ModelError, UnitError, did_you_mean
from .expressions import check_name, parse, parse_condition, to_text
from .model import OUTSIDE, TIMING, Compartment, Event, Flow, Input, Model, Observable, Parameter, Requirement
from .units import split

_TOP = (
    "name title scope parameters compartments flows observables inputs administration events derived references check "
    "require ports shared tracer"
).split()
COMPOSING = tuple("parts layers table set sums connect organs".split())  # words of a file that is put together
_PARAMETER = "value unit formula lower upper cv meaning source status fixed".split()
_COMPARTMENT = "unit region initial kind receptor meaning".split()
_FLOW = "from to rate name carrier".split()
_OBSERVABLE = "formula unit meaning".split()
_INPUT = "unit delay meaning".split()
_EVENT = "when set name delay priority persistent initial_value use_trigger_values".split()
_REQUIRE = ("that", "why")
_CHECK = "regimen time expect rtol atol source nuclide cold amount into inputs input_time parameters quantity".split()


def model_from_toml(text: str, origin: str = "") -> Model:
    """Read a model from TOML text (`origin` is the file name used in messages).

    Raises
    ------
    ModelError
        The text is not TOML, has an unknown key, or its parts do not fit together.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ModelError(f"{origin or 'model text'}: not valid TOML: {error}") from None
    return model_from_dict(raw, origin)


def model_from_dict(raw: Mapping[str, Any], origin: str = "") -> Model:
    """Build a model from a dictionary with the words of a model file.

    Examples
    --------
    >>> m = model_from_dict({
    ...     "name": "wash", "parameters": {"k": "0.1 1/h"}, "compartments": {"organ": "nmol"},
    ...     "flows": ["organ -> : k*organ"], "observables": {"organ_amount": "organ"}})
    >>> m.rate_of_change("organ")
    -k*organ
    """
    name = str(raw.get("name", ""))
    who = origin or name or "model"
    if not name:
        raise ModelError(f"{who}: a model needs a name")
    if composed := [k for k in COMPOSING if k in raw]:
        raise ModelError(
            f"{who}: {', '.join(composed)}: a model put together from others is read with load_model(path) or made "
            "with assemble(...)"
        )
    _known_keys(raw, _TOP, who)
    parameters_raw = _table(raw, "parameters", who)
    compartments_raw = _table(raw, "compartments", who)
    inputs_raw = _table(raw, "inputs", who)
    for group, names in (("parameter", parameters_raw), ("compartment", compartments_raw), ("input", inputs_raw)):
        for part in names:
            check_name(part, f"{who}: {group}")  # before any formula that uses it fails for another reason
    known = [*parameters_raw, *compartments_raw, *inputs_raw]

    compartments = {n: _compartment(n, v, list(parameters_raw), who) for n, v in compartments_raw.items()}
    parameters = {
        n: read_parameter(n, v, list(parameters_raw), f"{who}: parameter {n}") for n, v in parameters_raw.items()
    }
    flows = tuple(_flow(f, known, who) for f in _list(raw, "flows", who))
    model = Model(
        name=name,
        title=str(raw.get("title", "")),
        scope=str(raw.get("scope", "body")),
        parameters=parameters,
        compartments=compartments,
        flows=flows,
        observables={n: _observable(n, v, known, who) for n, v in _table(raw, "observables", who).items()},
        inputs={n: _input(n, v, who) for n, v in inputs_raw.items()},
        administration={
            route: {
                c: parse(e, parameters_raw, f"{who}: administration {route} into {c}")
                for c, e in _parts(p, who).items()
                if not _times(c, compartments_raw)
            }
            for route, p in _table(raw, "administration", who).items()
        },
        timing={
            route: times
            for route, p in _table(raw, "administration", who).items()
            if (
                times := {
                    key: parse(e, parameters_raw, f"{who}: administration {route}: {key}")
                    for key, e in _parts(p, who).items()
                    if _times(key, compartments_raw)
                }
            )
        },
        events=tuple(_event(e, known, who) for e in _list(raw, "events", who)),
        derived={
            n: read_parameter(n, v, list(parameters_raw), f"{who}: derived {n}")
            for n, v in _table(raw, "derived", who).items()
        },
        references=tuple(str(r) for r in _list(raw, "references", who)),
        checks=tuple(_check(c, who) for c in _list(raw, "check", who)),
        requirements=tuple(_require(r, list(parameters_raw), who) for r in _list(raw, "require", who)),
        ports=tuple(_list(raw, "ports", who)),
        shared=tuple(_list(raw, "shared", who)),
        tracer=dict(_table(raw, "tracer", who)),
        origin=origin,
    )
    return infer_observable_units(model)


def _known_keys(raw: Mapping[str, Any], allowed: Iterable[str], who: str) -> None:
    allowed = list(allowed)
    for key in raw:
        if key not in allowed:
            raise ModelError(
                f"{who}: key {key!r} is not known{did_you_mean(key, allowed)}; allowed: {', '.join(allowed)}"
            )


def _table(raw: Mapping[str, Any], key: str, who: str) -> Mapping[str, Any]:
    value = raw.get(key, {})
    if not isinstance(value, Mapping):
        raise ModelError(f"{who}: [{key}] must be a table, found {type(value).__name__}")
    return value


def _parts(value: Any, who: str) -> Mapping[str, Any]:
    if isinstance(value, str):
        return {value: 1}
    if isinstance(value, Mapping):
        return value
    raise ModelError(f"{who}: an administration is a compartment or a table of fractions, found {value!r}")


def _times(key: str, compartments: Iterable[str]) -> bool:
    """Whether a key of an administration says when, not where; a compartment of that name comes first."""
    return key in TIMING and key not in compartments


def _number(value: Any, who: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelError(f"{who}: expected a number, found {value!r}")
    return float(value)


def _flag(value: Any, who: str) -> bool:
    if not isinstance(value, bool):
        raise ModelError(f"{who}: expected true or false, found {value!r}")
    return value


def _list(raw: Mapping[str, Any], key: str, who: str) -> list[Any]:
    value = raw.get(key, [])
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise ModelError(f"{who}: {key!r} must be a list ([[{key}]] in a file), found {type(value).__name__}")
    return list(value)


def read_parameter(name: str, raw: Any, known: Iterable[str], who: str) -> Parameter:
    """A parameter from the words of a file: a table, or text such as ``"0.30 L/h"``.

    Raises
    ------
    ModelError, UnitError
        A key is not known, a number is none, or there is no unit.
    """
    if isinstance(raw, str):
        value, unit = split(raw, who, example="0.30 L/h")
        raw = {"value": value, "unit": unit}
    if not isinstance(raw, Mapping):
        raise ModelError(f"{who}: expected a table or text such as '0.30 L/h', found {raw!r}")
    _known_keys(raw, _PARAMETER, who)
    if "unit" not in raw:
        raise UnitError(f'{who}: no unit; write unit = "1" for a pure number')
    return Parameter(
        name=name,
        unit=str(raw["unit"]),
        value=_number(raw["value"], who) if "value" in raw else None,
        formula=parse(raw["formula"], known, who) if "formula" in raw else None,
        lower=_number(raw.get("lower", -math.inf), who),
        upper=_number(raw.get("upper", math.inf), who),
        cv=_number(raw["cv"], who) if "cv" in raw else None,
        meaning=str(raw.get("meaning", "")),
        source=str(raw.get("source", "")),
        status=str(raw.get("status", "assumed")),
        fixed=_flag(raw.get("fixed", False), f"{who}: fixed"),
    )


def _compartment(name: str, raw: Any, parameters: list[str], who: str) -> Compartment:
    where = f"{who}: compartment {name}"
    if isinstance(raw, str):
        raw = {"unit": raw}
    if not isinstance(raw, Mapping):
        raise ModelError(f"{where}: expected a table or a unit, found {raw!r}")
    _known_keys(raw, _COMPARTMENT, where)
    if "unit" not in raw:
        raise UnitError(f'{where}: no unit; write for example unit = "nmol"')
    return Compartment(
        name=name,
        unit=str(raw["unit"]),
        region=str(raw.get("region", "")),
        initial=parse(raw.get("initial", 0), parameters, f"{where}: initial"),
        kind=str(raw.get("kind", "ligand")),
        receptor=parse(raw["receptor"], parameters, f"{where}: receptor") if "receptor" in raw else None,
        meaning=str(raw.get("meaning", "")),
    )


def _flow(raw: Any, known: list[str], who: str) -> Flow:
    if isinstance(raw, str):
        ends, colon, rate = raw.partition(":")
        source, arrow, target = ends.partition("->")
        if not (colon and arrow):
            raise ModelError(f"{who}: flow {raw!r} is not of the form 'from -> to: rate'")
        raw = {"from": source.strip(), "to": target.strip(), "rate": rate.strip()}
    if not isinstance(raw, Mapping):
        raise ModelError(f"{who}: a flow is a table or text 'from -> to: rate', found {raw!r}")
    source, target = str(raw.get("from", OUTSIDE)), str(raw.get("to", OUTSIDE))
    where = f"{who}: flow {raw.get('name') or f'{source} -> {target}'.strip()}"
    _known_keys(raw, _FLOW, where)
    if "rate" not in raw:
        raise ModelError(f"{where}: no rate")
    return Flow(
        source=source,
        target=target,
        rate=parse(raw["rate"], known, where),
        name=str(raw.get("name", "")),
        carrier=parse(raw["carrier"], known, f"{where}: carrier") if "carrier" in raw else None,
    )


def _observable(name: str, raw: Any, known: list[str], who: str) -> Observable:
    where = f"{who}: observable {name}"
    if isinstance(raw, str):
        raw = {"formula": raw}
    if not isinstance(raw, Mapping):
        raise ModelError(f"{where}: expected a formula or a table, found {raw!r}")
    _known_keys(raw, _OBSERVABLE, where)
    if "formula" not in raw:
        raise ModelError(f"{where}: no formula")
    return Observable(
        name=name,
        expression=parse(raw["formula"], known, where),
        unit=str(raw.get("unit", "")),
        meaning=str(raw.get("meaning", "")),
    )


def _input(name: str, raw: Any, who: str) -> Input:
    where = f"{who}: input {name}"
    if isinstance(raw, str):
        raw = {"unit": raw}
    if not isinstance(raw, Mapping) or "unit" not in raw:
        raise UnitError(f'{where}: no unit; write for example unit = "kBq/mL"')
    _known_keys(raw, _INPUT, where)
    return Input(name=name, unit=str(raw["unit"]), delay=str(raw.get("delay", "")), meaning=str(raw.get("meaning", "")))


def _event(raw: Any, known: list[str], who: str) -> Event:
    if not isinstance(raw, Mapping) or "when" not in raw or "set" not in raw:
        raise ModelError(f"{who}: an event is a table with 'when' (a condition) and 'set', found {raw!r}")
    where = f"{who}: event {raw.get('name') or raw['when']}"
    _known_keys(raw, _EVENT, where)
    flags = {k: _flag(raw[k], f"{where}: {k}") for k in _EVENT[-3:] if k in raw}
    return Event(
        name=str(raw.get("name", "")),
        trigger=parse_condition(raw["when"], known, where),
        assignments={n: parse(e, known, f"{where}: {n}") for n, e in _table(raw, "set", where).items()},
        delay=parse(raw.get("delay", 0), known, f"{where}: delay"),
        priority=parse(raw["priority"], known, f"{where}: priority") if "priority" in raw else None,
        **flags,
    )


def _require(raw: Any, known: list[str], who: str) -> Requirement:
    if not isinstance(raw, Mapping) or "that" not in raw:
        raise ModelError(f"{who}: [[require]] is a table with 'that' (a condition) and 'why', found {raw!r}")
    _known_keys(raw, _REQUIRE, f"{who}: [[require]]")
    return Requirement(
        condition=parse_condition(raw["that"], known, f"{who}: [[require]]"), why=str(raw.get("why", ""))
    )


def _check(raw: Any, who: str) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        raise ModelError(f"{who}: [[check]] must be a table, found {raw!r}")
    _known_keys(raw, _CHECK, f"{who}: [[check]]")
    for key in ("expect", "source"):
        if key not in raw:
            raise ModelError(f"{who}: [[check]] needs {key!r}: a reference number without a source proves nothing")
    return dict(raw)


def model_to_toml(model: Model) -> str:
    """Write a model as TOML; `model_from_toml` reads it back to an equal model."""
    lines = [f"name  = {_quote(model.name)}"]
    if model.title:
        lines.append(f"title = {_quote(model.title)}")
    if model.scope != "body":
        lines.append(f"scope = {_quote(model.scope)}")
    if model.references:
        lines.append("references = [" + ", ".join(_quote(r) for r in model.references) + "]")

    for key in ("ports", "shared"):
        if names := getattr(model, key):
            lines.append(f"{key} = {_value(names)}")
    if model.tracer:
        lines.append(f"tracer = {_value(model.tracer)}")

    def parameter(p: Parameter) -> dict[str, Any]:
        return {
            "value": p.value,
            "unit": p.unit,
            "formula": p.formula,
            "lower": None if p.lower == -math.inf else p.lower,
            "upper": None if p.upper == math.inf else p.upper,
            "cv": p.cv,
            "meaning": p.meaning,
            "source": p.source,
            "status": None if p.status == "assumed" else p.status,
            "fixed": p.fixed or None,
        }

    lines += _section("parameters", {n: parameter(p) for n, p in model.parameters.items()})
    lines += _section(
        "compartments",
        {
            n: {
                "unit": c.unit,
                "region": c.region,
                "initial": None if c.initial == 0 else c.initial,
                "kind": None if c.kind == "ligand" else c.kind,
                "receptor": c.receptor,
                "meaning": c.meaning,
            }
            for n, c in model.compartments.items()
        },
    )
    lines += _section(
        "inputs", {n: {"unit": i.unit, "delay": i.delay, "meaning": i.meaning} for n, i in model.inputs.items()}
    )
    routes = {r: {**parts, **model.timing.get(r, {})} for r, parts in model.administration.items()}
    lines += _section("administration", routes)
    for f in model.flows:
        lines += ["", "[[flows]]"]
        pairs = {"from": f.source, "to": f.target, "rate": f.rate, "name": f.name, "carrier": f.carrier}
        lines += [f"{k} = {_value(v)}" for k, v in pairs.items() if v is not None and v != ""]
    lines += _section(
        "observables",
        {n: {"formula": o.expression, "unit": o.unit, "meaning": o.meaning} for n, o in model.observables.items()},
    )
    for e in model.events:
        lines += ["", "[[events]]"]
        about = {"name": e.name, "when": to_text(e.trigger), "set": e.assignments, "priority": e.priority}
        about |= {"delay": None if e.delay == 0 else e.delay}
        about |= {k: None if getattr(e, k) else False for k in _EVENT[-3:]}
        lines += [f"{k} = {_value(v)}" for k, v in about.items() if v is not None and v != ""]
    lines += _section("derived", {n: parameter(p) for n, p in model.derived.items()})
    for r in model.requirements:
        lines += ["", "[[require]]", f"that = {_quote(to_text(r.condition))}", f"why = {_quote(r.why)}"]
    for check in model.checks:
        lines += ["", "[[check]]", *(f"{k} = {_value(v)}" for k, v in check.items())]
    return "\n".join(lines) + "\n"


def _section(name: str, rows: Mapping[str, Any]) -> list[str]:
    return ["", f"[{name}]", *(f"{n} = {_value(r)}" for n, r in rows.items())] if rows else []


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML strings are JSON's but for DEL


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, sp.Expr):
        return _quote(to_text(value))
    if isinstance(value, str):
        return _quote(value)
    if isinstance(value, Mapping):
        inside = ", ".join(f"{k} = {_value(v)}" for k, v in value.items() if v is not None and v != "")
        return "{ " + inside + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    return repr(value)
