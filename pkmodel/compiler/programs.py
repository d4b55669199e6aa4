"""All programs of an autonomous system: its equations, their Jacobian and its LU, each a tape.

`equations` writes rates and Jacobian as sums of cores with coefficients (`lower.terms`); `programs` writes the tapes.
Programs for derivatives are built elsewhere from the same `Equations`, on a `Constants.copy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import sympy as sp

from ..sharing import symbols_of
from .autonomous import Autonomous
from .derivative import derivative
from .lower import Constants, Hoisting, Lowering, Place, Terms, shared_sums, terms
from .powers import one_sided
from .sparsity import Entry, LUPlan, elimination, factor, solve, solve_transposed
from .tape import Builder, Tape

# Multiplications of one factorisation beyond which straight-line code no longer pays: it outgrows the instruction
# cache, takes long to compile, and a loop over a dense matrix is faster. A full matrix of 40 states has 20 000.
MOST_UPDATES = 30_000


@dataclass(frozen=True, slots=True)
class Equations:
    """Rates and Jacobian of a system in the form in which programs are written."""

    system: Autonomous
    places: Mapping[sp.Symbol, Place]  # states in y, parameters in q
    constants: Constants
    whole: frozenset[sp.Expr]
    rates: tuple[Terms, ...]  # (n)
    jacobian: Mapping[Entry, Terms]  # nonzeros by rows

    def hoisting(self, builder: Builder, constants: Constants | None = None) -> Hoisting:
        """Writer of expressions of this system; constants go to its own table, or to a copy of it."""
        return Hoisting(builder, self.places, constants or self.constants, self.whole)

    def varies(self, entry: Entry) -> bool:
        """Whether an entry of the Jacobian depends on the state."""
        return any(core != 1 for core in self.jacobian[entry])


def equations(system: Autonomous) -> Equations:
    """Collect rates and differentiate them.

    Parameters
    ----------
    system : states, parameters and rates
    """
    rates, report = (tuple(one_sided(e, system.states) for e in part) for part in (system.rates, system.report))
    system = replace(system, rates=rates, report=report)
    constants = Constants(system.parameters)
    places = {s: ("y", i) for i, s in enumerate(system.states)}
    places |= {s: ("q", i) for i, s in enumerate(system.parameters)}
    whole = shared_sums(system.rates, constants)
    collected = tuple(terms(e, constants, whole) for e in system.rates)
    position = {s: i for i, s in enumerate(system.states)}
    jacobian: dict[Entry, Terms] = {}
    for i, rate in enumerate(collected):
        parts: dict[int, list[sp.Expr]] = {}
        for core, coefficient in rate.items():
            if core.is_Symbol:
                parts.setdefault(position[core], []).append(coefficient)
                continue
            for j in sorted(position[s] for s in symbols_of(core) if s in position):
                slope = derivative(core, system.states[j])
                if slope != 0:
                    parts.setdefault(j, []).append(coefficient * slope)
        for j in sorted(parts):
            if entry := terms(sp.Add(*parts[j]), constants, whole):
                jacobian[i, j] = entry
    return Equations(system, places, constants, whole, collected, jacobian)


@dataclass(frozen=True, slots=True)
class Programs:
    """The tapes of a system by name, and the sizes of their arrays.

    constants(q)           fills q behind the parameters
    initial(q, y)          state at time zero, of the primary parameters
    rhs(y, q, f)           rates
    jacobian(y, q, J)      its nonzeros, in the order of `plan.pattern`
    factor(y, q, g, w)     LU of g I - J
    solve(w, x)            (g I - J) x = b in place
    solve_transposed(w, x) (g I - J)' x = b in place
    report(y, q, out)      what is reported

    Where elimination would take more than `MOST_UPDATES`, factor and both solves are missing (`dense`).
    """

    equations: Equations
    tapes: Mapping[str, Tape]
    plan: LUPlan
    nq: int

    @property
    def n(self) -> int:
        """Number of states."""
        return len(self.system.states)

    @property
    def k(self) -> int:
        """Number of parameters, the first entries of q."""
        return len(self.system.parameters)

    @property
    def no(self) -> int:
        """Number of reported values."""
        return len(self.system.report)

    @property
    def system(self) -> Autonomous:
        """What the programs were made from."""
        return self.equations.system

    @property
    def dense(self) -> bool:
        """Whether the LU is left to a loop over a full matrix."""
        return "factor" not in self.tapes

    @property
    def nw(self) -> int:
        """Length of w."""
        return self.plan.nw


def programs(system: Autonomous) -> Programs:
    """Write the programs of a system.

    Parameters
    ----------
    system : autonomous; `reduce` it first

    Returns
    -------
    Programs

    Raises
    ------
    ModelError
        An expression contains what no operation computes.
    """
    eq = equations(system)
    tapes = {}

    builder = Builder()
    write = eq.hoisting(builder)
    for i, rate in enumerate(eq.rates):
        builder.store("f", i, write.combined(rate))
    tapes["rhs"] = builder.tape("rhs", "y", "q", "f")

    builder = Builder()
    write = eq.hoisting(builder)
    entries = {e: write.combined(parts) for e, parts in eq.jacobian.items()}
    for at, e in enumerate(sorted(entries)):
        builder.store("J", at, entries[e])
    tapes["jacobian"] = builder.tape("jacobian", "y", "q", "J")
    builder.stores.clear()
    steps = elimination(len(system.states), entries)
    if steps.updates > MOST_UPDATES:
        plan = LUPlan(steps, tuple(sorted(entries)), {}, 0)
    else:
        tapes["factor"], plan = factor(steps, builder, entries, ("y", "q", "g", "w"))
        tapes["solve"], tapes["solve_transposed"] = solve(plan), solve_transposed(plan)

    builder = Builder()
    write = eq.hoisting(builder)
    for i, e in enumerate(eq.system.report):
        builder.store("out", i, write.number(e))
    tapes["report"] = builder.tape("report", "y", "q", "out")

    builder = Builder()
    plain = Lowering(builder, eq.places)
    for i, e in enumerate(system.initial):
        builder.store("y", i, plain.number(e))
    tapes["initial"] = builder.tape("initial", "q", "y")

    tapes["constants"] = eq.constants.tape()
    return Programs(eq, tapes, plan, eq.constants.size)
