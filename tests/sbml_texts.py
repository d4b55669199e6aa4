"""Small SBML files for tests, written out in full where it matters and put together here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pkmodel.compiler.autonomous import autonomous
from pkmodel.compiler.system import build_system
from pkmodel.model import Model
from pkmodel.solve.records import Kind, records
from pkmodel.trigger_walk import Machine
from pkmodel.triggers import settled, triggered

MATH = "http://www.w3.org/1998/Math/MathML"
TIME = '<csymbol encoding="text" definitionURL="http://www.sbml.org/sbml/symbols/time">time</csymbol>'


def sbml(*lists: str, attributes: str = "", version: int = 2) -> str:
    """A Level 3 file; each list is the inside of <model>."""
    return (
        f'<sbml xmlns="http://www.sbml.org/sbml/level3/version{version}/core" level="3" version="{version}">\n'
        f'<model id="m" {attributes}>\n' + "\n".join(lists) + "\n</model></sbml>"
    )


def math(inside: str) -> str:
    return f'<math xmlns="{MATH}">{inside}</math>'


def apply(operator: str, *args: str) -> str:
    return f"<apply><{operator}/>{''.join(ci(a) for a in args)}</apply>"


def ci(text: str) -> str:
    """A name or number as MathML; what is MathML already stays."""
    if text.startswith("<"):
        return text
    return f"<cn>{text}</cn>" if text.replace(".", "").lstrip("-").isdigit() else f"<ci>{text}</ci>"


def parameters(**values: float | str | None) -> str:
    """``k=1`` constant, ``k="rule"`` not constant and without value, ``k=None`` constant without value."""
    rows = ""
    for name, v in values.items():
        number = "" if v is None or v == "rule" else f'value="{v}"'
        rows += f'<parameter id="{name}" {number} constant="{str(v != "rule").lower()}"/>'
    return f"<listOfParameters>{rows}</listOfParameters>"


def compartment(size: float = 1.0, constant: bool = True) -> str:
    is_constant = str(constant).lower()
    return (
        f'<listOfCompartments><compartment id="C" size="{size}" spatialDimensions="3" constant="{is_constant}"/>'
        "</listOfCompartments>"
    )


def species(id: str, initial: str, *, amounts: bool = False, boundary: bool = False, more: str = "") -> str:
    return (
        f'<species id="{id}" compartment="C" {initial} hasOnlySubstanceUnits="{str(amounts).lower()}" '
        f'boundaryCondition="{str(boundary).lower()}" constant="false" {more}/>'
    )


def listed(kind: str, *items: str) -> str:
    return f"<listOf{kind}>{''.join(items)}</listOf{kind}>"


def reaction(id: str, law: str, reactants: Sequence[str] = (), products: Sequence[str] = (), more: str = "") -> str:
    def side(kind: str, names: Sequence[str]) -> str:
        references = "".join(
            f'<speciesReference species="{n.split("*")[-1]}" constant="true" '
            f'stoichiometry="{n.split("*")[0] if "*" in n else 1}"/>'
            for n in names
        )
        return f"<listOf{kind}>{references}</listOf{kind}>" if names else ""

    return (
        f'<reaction id="{id}" reversible="false">{side("Reactants", reactants)}{side("Products", products)}'
        f"<kineticLaw>{math(law)}{more}</kineticLaw></reaction>"
    )


def rule(kind: str, variable: str, formula: str) -> str:
    return f'<{kind}Rule variable="{variable}">{math(formula)}</{kind}Rule>'


def initially(variable: str, formula: str) -> str:
    return f'<initialAssignment symbol="{variable}">{math(formula)}</initialAssignment>'


def follow(
    model: Model, times: Sequence[float] | NDArray[np.float64], doses: Mapping[str, float] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Observables and states of a model at given times [h], after boluses at time zero [canonical]."""
    model = settled(model)
    names = (*model.observables, *(c for c in model.compartments if c not in model.observables))
    system = autonomous(build_system(model), report=names)
    values = model.canonical_values()
    given = records([(0.0, Kind.ADD_STATE, system.state(c), amount) for c, amount in (doses or {}).items()])
    machine = Machine(triggered(system, model))
    run = machine.run(np.array([values[n] for n in model.primary]), given, np.asarray(times, float), 1e-9, 1e-13)
    assert not run.status, run.message
    return {n: run.out[:, k] for k, n in enumerate(names)}
