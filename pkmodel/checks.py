"""Proofs about a model, made on its equations rather than on a run: units, mass balance, flow balance, signs.

`check` never raises for what it finds: it returns a report that says what holds, what does not, and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import sympy as sp

from .dimensions import check_condition, dimension_of, multiply, symbol_dimensions
from .errors import PkmodelError
from .expressions import TIME, symbol, to_text
from .model import OUTSIDE, Compartment, Model, iterate_expressions
from .requirements import number
from .units import Dimension, dimension


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked."""

    what: str
    ok: bool
    detail: str = ""

    def __str__(self) -> str:
        return f"{'ok  ' if self.ok else 'FAIL'} {self.what}" + (f": {self.detail}" if self.detail else "")


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `check` found; true when everything holds."""

    model: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every finding holds."""
        return all(f.ok for f in self.findings)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        lines = [f"{self.model}: {'all checks hold' if self.ok else 'NOT all checks hold'}"]
        lines += [f"  {f}" for f in self.findings]
        lines += [f"  note {n}" for n in self.notes]
        return "\n".join(lines)


def check(model: Model) -> CheckReport:
    """Prove what can be proved about a model from its equations.

    Units of every rate, initial state, observable and formula; mass balance (what is given is present, excreted or
    decayed); balance of carried flows at each node; no flow out of an empty compartment.

    Parameters
    ----------
    model : labelled or not

    Returns
    -------
    CheckReport
        Printable; ``bool(report)`` says whether all hold.
    """
    findings = [
        *_units(model),
        _mass_balance(model),
        *_flow_balance(model),
        *_doses(model),
        _empty_compartments(model),
    ]
    return CheckReport(model=model.name, findings=tuple(findings), notes=tuple(_notes(model)))


def _units(model: Model) -> list[Finding]:
    known = symbol_dimensions(model)
    hour = dimension("h")
    problems: list[str] = []

    def expect(what: str, expression: sp.Expr, wanted: Dimension) -> None:
        try:
            found = dimension_of(expression, known, what)
        except PkmodelError as error:
            problems.append(str(error))
            return
        if found is not None and found != wanted:
            problems.append(f"{what}: {to_text(expression)!r} is {found}, but should be {wanted}")

    for f in model.flows:
        ends = [model.compartments[e] for e in (f.source, f.target) if e != OUTSIDE]
        for c in ends:
            expect(f"flow {f} (at {c.name} [{c.unit}])", f.rate, multiply(dimension(c.unit), hour, -1))
        if f.carrier is not None:
            expect(f"carrier of flow {f}", f.carrier, dimension("L/h"))
    for c in model.compartments.values():
        expect(f"initial {c.name}", c.initial, dimension(c.unit))
        if c.receptor is not None:
            expect(f"receptor {c.name}", c.receptor, dimension(c.unit))
    for o in model.observables.values():
        expect(f"observable {o.name}", o.expression, dimension(o.unit))
    for p in (*model.parameters.values(), *model.derived.values()):
        if p.formula is not None:
            expect(f"parameter {p.name}", p.formula, dimension(p.unit))
    for event in model.events:
        try:
            check_condition(event.trigger, known, f"{event}: when")
        except PkmodelError as error:
            problems.append(str(error))
        expect(f"{event}: delay", event.delay, hour)
        for target, e in event.assignments.items():
            part = model.compartments.get(target) or model.parameters[target]
            expect(f"{event}: {target}", e, dimension(part.unit))
    for route, parts in model.administration.items():
        for c_name, e in parts.items():
            state = dimension(model.compartments[c_name].unit)
            holds = dict(state.exponents)
            dose = "MBq" if "activity" in holds else "g" if "mass" in holds and "substance" not in holds else "nmol"
            expect(f"administration {route} into {c_name}, per {dose}", e, multiply(state, dimension(dose), -1))
    for route, times in model.timing.items():
        for key, e in times.items():
            expect(f"{key} of administration {route}", e, hour)
    for i in model.inputs.values():
        if i.delay:
            expect(f"delay of input {i.name}", symbol(i.delay), hour)
    expressions = len(list(iterate_expressions(model)))
    detail = "; ".join(problems) if problems else f"{expressions} expressions"
    return [Finding("units", not problems, detail)]


def _mass_balance(model: Model) -> Finding:
    """d/dt of all ligand = made - excreted - decayed, as an identity in every state and parameter.

    Flows between amounts conserve by their form; what can break it is a flow to a binding site, or one between
    concentrations that refer to different volumes.
    """
    ligand = [c.name for c in model.compartments.values() if c.kind == "ligand"]
    if not ligand:
        return Finding("mass balance", True, "no ligand compartments")
    inside = set(ligand)
    change = sp.Add(*(model.rate_of_change(c) for c in ligand))
    crossing = sp.Integer(0)
    for f in model.flows:
        source_in, target_in = f.source in inside, f.target in inside
        if f.source != OUTSIDE and f.target != OUTSIDE and source_in != target_in:
            return Finding("mass balance", False, f"flow {f} turns ligand into a binding site or back")
        if source_in and target_in:
            a, b = model.compartments[f.source], model.compartments[f.target]
            if _per_volume(a) and a.region != b.region:
                detail = (
                    f"flow {f} is between concentrations of two regions, {a.region!r} and {b.region!r}; use amounts"
                )
                return Finding("mass balance", False, detail)
        if source_in and f.target == OUTSIDE:
            crossing -= f.rate
        elif target_in and f.source == OUTSIDE:
            crossing += f.rate
    rest = sp.simplify((change - crossing).xreplace(model.resolved))
    if rest != 0:
        return Finding("mass balance", False, f"left over: {to_text(rest)}")
    where = " (per volume of tissue)" if any(_per_volume(model.compartments[c]) for c in ligand) else ""
    return Finding("mass balance", True, f"given = present + excreted + decayed{where}, proved")


def _per_volume(c: Compartment) -> bool:
    return "length" in dict(dimension(c.unit).exponents)


_FEW = 20  # formulas that are written out in a message; a whole body has hundreds


def _flow_balance(model: Model) -> list[Finding]:
    """Carried volumes that enter a node equal those that leave; what nothing leaves (a bladder) may fill."""
    nodes: dict[str, sp.Expr] = {}
    drained = {f.source for f in model.flows}
    for f in model.flows:
        if f.carrier is None:
            continue
        for end, sign in ((f.target, 1), (f.source, -1)):
            if end in drained and end != OUTSIDE and end not in model.ports:  # a port's other flows are elsewhere
                nodes[end] = nodes.get(end, sp.Integer(0)) + sign * f.carrier
    problems = []
    formulas = {symbol(n): p.formula for n, p in model.parameters.items() if p.formula is not None}
    order = [s for s in reversed(model.resolution) if s in formulas]  # what uses others before what is used
    for node, net in nodes.items():
        rest, left = sp.expand(net), _number(net, model)
        scale = _number(sp.Add(*map(abs, sp.Add.make_args(net))), model)
        off = left is not None and scale is not None and abs(left) > 1e-9 * scale
        for s in order:  # one at a time: the sum of all flows cancels before the flows are written out
            if rest == 0 or (off and len(order) > _FEW):
                break
            if s in rest.free_symbols:
                rest = sp.expand(rest.xreplace({s: formulas[s]}))
        if off or (rest != 0 and sp.simplify(rest) != 0):
            amount = f" = {left:+.4g} L/h" if left is not None else ""
            problems.append(f"{node}: in minus out is {to_text(rest)}{amount}")
    if not nodes:
        return []
    return [Finding("flow balance", not problems, "; ".join(problems) or f"{len(nodes)} nodes, proved")]


def _number(e: sp.Expr, model: Model, others: Mapping[sp.Symbol, float] | None = None) -> float | None:
    """Value of an expression in canonical units; None where a parameter has none."""
    known: dict[str, sp.Expr | None] = {}
    values = {
        s: sp.Float(others[s]) if others and s in others else number(s.name, model.parameters, known)
        for s in e.free_symbols
    }
    if any(v is None for v in values.values()):
        return None
    worked_out = e.xreplace(values)
    return float(worked_out) if worked_out.is_number and worked_out.is_real else None


def _doses(model: Model) -> list[Finding]:
    """No route gives more than the dose: joined models may each send a route of one name to a place of their own."""
    problems = []
    atoms = {symbol(n): 1.0 for n in model.parameters if n.startswith("mbq_per_nmol")}  # a daughter's, as atoms
    for route, parts in model.administration.items():
        pure = [e for c, e in parts.items() if not _per_volume(model.compartments[c])]
        total = _number(sp.Add(*pure), model, atoms)
        if total is not None and total > 1 + 1e-9:
            problems.append(f"{route} gives {total:.4g} times the dose, to {', '.join(parts)}")
    if not model.administration:
        return []
    return [Finding("doses", not problems, "; ".join(problems) or "no route gives more than the dose")]


def _empty_compartments(model: Model) -> Finding:
    """A compartment that is empty cannot lose anything; otherwise amounts would become negative."""
    problems = []
    open_ = {n: replace(p, value=1.0) for n, p in model.parameters.items() if p.value is None and p.formula is None}
    parameters = {**model.parameters, **open_}
    known: dict[str, sp.Expr | None] = {}
    values = {symbol(n): number(n, parameters, known) for n in parameters}
    probe = {symbol(c): sp.Rational(7 + 3 * k, 10) for k, c in enumerate(model.compartments)}
    room = [c.receptor.xreplace(values) for c in model.compartments.values() if c.receptor]
    if small := [float(r) for r in room if r.is_number and float(r) > 0]:  # no more ligand than the receptors can hold
        share = min(1.0, 0.5 * min(small) / float(sum(probe.values())))
        probe = {s: value * sp.Rational(share) for s, value in probe.items()}
    probe |= {symbol(i): sp.Rational(9, 10) for i in model.inputs} | {symbol(TIME): sp.Integer(1)}
    net: dict[str, list[sp.Expr]] = {c: [] for c in model.compartments}
    for f in model.flows:
        for end, sign in ((f.source, 1), (f.target, -1)):
            if end != OUTSIDE:
                net[end].append(sign * f.rate)
    for c, rates in net.items():
        lost = sp.Add(*rates).xreplace({symbol(c): sp.Integer(0)})
        got = lost.xreplace({**values, **probe})
        if got.is_number and got.is_real and float(got) > 1e-12:
            problems.append(f"{c} loses {to_text(lost)} when it is empty")
    return Finding("signs", not problems, "; ".join(problems) or "no flow out of an empty compartment")


def _notes(model: Model) -> list[str]:
    notes = []
    used = {s.name for _, e in iterate_expressions(model) for s in e.free_symbols}
    used |= {i.delay for i in model.inputs.values()}
    if unused := [n for n in model.parameters if n not in used and not model.parameters[n].fixed]:
        notes.append(f"unused parameters: {', '.join(unused)}")
    if model.unverified:
        notes.append(model.unverified)
    seen = {s.name for o in model.observables.values() for s in o.expression.free_symbols}
    if not model.observables:
        notes.append("no observables: nothing of this model can be compared with data")
    elif hidden := [c for c in model.compartments if c not in seen]:
        notes.append(f"not part of any observable: {', '.join(hidden)}")
    return notes
