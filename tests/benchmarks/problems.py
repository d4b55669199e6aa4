"""The four benchmark problems as models of ours: what they are, what is given, where they are looked at.

========  =======  =====================================================================================
P1        linear   plasma, three tissues, urine; bolus and half an hour of infusion
P2s, P2   stiff    4 or 8 organs with shared receptors, hot and cold [177Lu]Lu-ligand, 4 cycles, 32 weeks
P3        stiff    target-mediated disposition of an antibody, and its diffusion through a tumour cord
========  =======  =====================================================================================

Values are plausible rather than published: a benchmark asks for a typical size and stiffness. The biology follows the
receptor models of peptide therapy (doi:10.1186/s40658-025-00726-7), target-mediated disposition
(doi:10.1023/A:1014414520282) and the cord of tissue around a capillary (doi:10.1113/jphysiol.1919.sp001839).
Each problem is 1000 parameter sets, log-normal around the values with 25 % (P1: 30 %) spread; decay is not drawn.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import sympy as sp
from numpy.typing import NDArray

import pkmodel as pk
from pkmodel.compiler.system import build_system
from pkmodel.expressions import symbol
from pkmodel.model import Model

Array = NDArray[np.float64]
RTOL = 1e-6  # of all, unless a curve of tolerances is asked for
DECAY = float(np.log(2) / 159.53)  # 177Lu, the half-life of the first measurements [1/h]
RATE = "rate of injection"  # the parameter that an infusion switches [nmol/h]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A model with its parameter sets, doses and output times.

    `doses` are (time [h], compartment, amount added); `infusions` (time [h], rate from then on [amount/h]) into the
    first compartment. `constants` are parameters that are not drawn.
    """

    name: str
    read: Callable[[], Model]  # from model text
    values: Mapping[str, float]  # in the order in which they are drawn
    spread: float
    doses: tuple[tuple[float, str, float], ...]
    times: Array  # (m,) increasing [h]
    atol: float
    infusions: tuple[tuple[float, float], ...] = ()
    constants: Mapping[str, float] = field(default_factory=dict)
    fixed: frozenset[str] = frozenset({"lambda_phys"})

    def sets(self, count: int, names: tuple[str, ...], seed: int = 1) -> Array:
        """Parameter sets in the order of `names`, (count, len(names)).

        The constants fill their own columns, and an infusion's rate starts at zero.
        """
        drawn = np.array(list(self.values.values()))
        normal = np.random.default_rng(seed).standard_normal((count, drawn.size))
        table = drawn * np.exp(self.spread * normal)
        columns = {
            n: np.full(count, drawn[k]) if n in self.fixed else table[:, k] for k, n in enumerate(self.values)
        } | {n: np.full(count, v) for n, v in {**self.constants, RATE: 0.0}.items()}
        return np.ascontiguousarray(np.stack([columns[n] for n in names], axis=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Equations:
    """A problem in the form that every solver takes: y' = f(y, p), and what happens when.

    `events` are (time [h], index, value): y[index] += value, or, from n on, p[index - n] = value.
    """

    name: str
    states: tuple[sp.Symbol, ...]
    parameters: tuple[sp.Symbol, ...]
    rates: tuple[sp.Expr, ...]
    initial: tuple[sp.Expr, ...]
    events: tuple[tuple[float, int, float], ...]
    times: Array
    atol: float

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return tuple(map(str, self.parameters))

    def segments(self) -> list[tuple[float, float, list[tuple[int, float]], Array]]:
        """Between two events: start, end, what is given at the start, and the output times."""
        stops = sorted({0.0, float(self.times[-1]), *(t for t, _, _ in self.events)})
        return [
            (a, b, [(i, v) for t, i, v in self.events if t == a], self.times[(self.times > a) & (self.times <= b)])
            for a, b in itertools.pairwise(stops)
        ]


def equations(problem: Problem) -> Equations:
    """Write a problem out for solvers other than ours; states that integrate come last."""
    model = problem.read()
    system = build_system(model)
    rates, parameters = list(system.rates), list(system.parameters)
    events = [(t, system.states.index(c), amount) for t, c, amount in problem.doses]
    if problem.infusions:
        rates[0] += symbol(RATE)
        parameters.append(RATE)
        events += [(t, len(rates) + len(parameters) - 1, rate) for t, rate in problem.infusions]
    plain = {symbol(n): sp.Symbol(n.replace(" ", "_"), real=True) for n in (*system.states, *parameters)}
    return Equations(
        name=problem.name,
        states=tuple(plain[symbol(s)] for s in system.states),
        parameters=tuple(symbol(n) for n in parameters),
        rates=tuple(r.xreplace({s: v for s, v in plain.items() if str(s) in system.states}) for r in rates),
        initial=system.initial,
        events=tuple(sorted(events)),
        times=problem.times,
        atol=problem.atol,
    )


LINEAR = """
name  = "plasma_tissues"
title = "Plasma with a fast, a slow and a tumour compartment"

[parameters]
k12 = { value = 1.2,  unit = "1/h", meaning = "plasma to fast tissue" }
k21 = { value = 0.8,  unit = "1/h", meaning = "fast tissue to plasma" }
k13 = { value = 0.15, unit = "1/h", meaning = "plasma to slow tissue" }
k31 = { value = 0.02, unit = "1/h", meaning = "slow tissue to plasma" }
k14 = { value = 0.05, unit = "1/h", meaning = "plasma to tumour" }
k41 = { value = 0.01, unit = "1/h", meaning = "tumour to plasma" }
k10 = { value = 0.35, unit = "1/h", meaning = "plasma to bladder" }
kb  = { value = 0.5,  unit = "1/h", meaning = "voiding" }

[compartments]
plasma  = "nmol"
fast    = "nmol"
slow    = "nmol"
tumour  = "nmol"
bladder = "nmol"

[administration]
injection = "plasma"

[[flows]]
from = "plasma"
to   = "fast"
rate = "k12*plasma - k21*fast"
[[flows]]
from = "plasma"
to   = "slow"
rate = "k13*plasma - k31*slow"
[[flows]]
from = "plasma"
to   = "tumour"
rate = "k14*plasma - k41*tumour"
[[flows]]
from = "plasma"
to   = "bladder"
rate = "k10*plasma"
[[flows]]
from = "bladder"
rate = "kb*bladder"
"""

TISSUE = """
name  = "receptor_tissue"
title = "One organ of a receptor model: blood, interstitial space, receptors, cells"

[parameters]
kon  = { value = 2.4, unit = "L/nmol/h", meaning = "association rate" }
koff = { value = 1.2, unit = "1/h",      meaning = "dissociation rate" }
Vp   = { value = 2.8, unit = "L",        meaning = "plasma volume" }
GFR  = { value = 7.2, unit = "L/h",      meaning = "filtration" }
Q    = { unit = "L/h",  meaning = "plasma flow" }
Vv   = { unit = "L",    meaning = "vascular volume" }
Vi   = { unit = "L",    meaning = "interstitial volume" }
PS   = { unit = "L/h",  meaning = "permeability-surface product" }
Rtot = { unit = "nmol", meaning = "receptors" }
kint = { unit = "1/h",  meaning = "internalisation" }
krel = { unit = "1/h",  meaning = "release" }

[compartments]
plasma       = "nmol"
vascular     = "nmol"
interstitial = "nmol"
bound        = { unit = "nmol", receptor = "Rtot" }
internalised = "nmol"

[administration]
injection = "plasma"

[[flows]]
from = "plasma"
rate = "GFR/Vp*plasma"
[[flows]]
from = "plasma"
to   = "vascular"
rate = "Q*(plasma/Vp - vascular/Vv)"
[[flows]]
from = "vascular"
to   = "interstitial"
rate = "PS*(vascular/Vv - interstitial/Vi)"
[[flows]]
from = "interstitial"
to   = "bound"
rate = "kon*interstitial/Vi*(Rtot - bound) - koff*bound"
[[flows]]
from = "bound"
to   = "internalised"
rate = "kint*bound"
[[flows]]
from = "internalised"
rate = "krel*internalised"

[observables]
organ = "vascular + interstitial + bound + internalised"
"""

COLUMNS = "Q Vv Vi PS Rtot kint krel".split()
ORGANS = {
    organ: dict(zip(COLUMNS, row, strict=True))
    for organ, row in {
        "kidneys": (62.0, 0.06, 0.06, 6.0, 9.0, 0.17, 0.004),
        "tumour": (0.9, 0.006, 0.03, 0.25, 4.0, 0.10, 0.0075),
        "spleen": (9.0, 0.04, 0.05, 1.2, 8.0, 0.06, 0.007),
        "liver": (85.0, 0.30, 0.35, 8.0, 5.0, 0.06, 0.01),
        "muscle": (45.0, 0.75, 3.5, 2.5, 1.5, 0.05, 0.02),
        "marrow": (9.0, 0.12, 0.30, 1.0, 1.0, 0.05, 0.02),
        "gut": (55.0, 0.10, 0.35, 3.0, 3.0, 0.05, 0.02),
        "rest": (70.0, 0.5, 3.0, 4.0, 2.0, 0.05, 0.02),
    }.items()
}
CYCLES = (0.0, 1344.0, 2688.0, 4032.0)  # [h]
HOT, COLD = 10.2 * 0.74, 60.0  # [nmol]


def _linear() -> Problem:
    given = pk.model_from_toml(LINEAR).parameters
    return Problem(
        name="P1",
        read=lambda: pk.label(pk.model_from_toml(LINEAR), "Lu-177"),
        values={n: p.canonical for n, p in given.items()} | {"lambda_phys": DECAY, RATE: 0.0},
        fixed=frozenset({"lambda_phys", RATE}),
        spread=0.3,
        doses=((0.0, "plasma", 10.0),),
        infusions=((0.0, 20.0), (0.5, 0.0)),
        constants={"mbq_per_nmol": DECAY},
        times=np.geomspace(0.1, 168.0, 30),
        atol=1e-9,
    )


def _receptors(name: str, organs: Mapping[str, Mapping[str, float]]) -> Problem:
    shared = ("kon", "koff", "Vp", "GFR")

    def read() -> Model:
        tissue = pk.model_from_toml(TISSUE)
        return pk.label(pk.instantiate(tissue, organs, shared=("plasma", *shared), name=name), "Lu-177", cold=True)

    values = {"kon": 2.4, "koff": 1.2, "lambda_phys": DECAY, "Vp": 2.8, "GFR": 7.2}
    values |= {f"{c}_{organ}": row[c] for organ, row in organs.items() for c in COLUMNS}
    return Problem(
        name=name,
        read=read,
        values=values,
        spread=0.25,
        doses=tuple((t, c, x) for t in CYCLES for c, x in (("plasma_hot", HOT), ("plasma_cold", COLD))),
        times=np.concatenate([t + np.geomspace(0.05, 1343.0, 50) for t in CYCLES]),
        constants={"mbq_per_nmol": DECAY},  # activity in decays per hour, so that integrals count nmol
        atol=1e-9,
    )


def cord(cells: int = 20) -> Problem:
    """P3: plasma with a soluble target, and a cord of tumour cut into rings; 4 + 4*cells states [nmol/L].

    Ring i lies between the radii e_i and e_{i+1}; what crosses e_i moves D e_i/dr (c_{i-1} - c_i) per length and
    radian. The tumour is too small to be felt by the plasma.
    """
    inner, outer = 8.0, 75.0  # [um]
    edges = np.linspace(inner, outer, cells + 1).tolist()
    area = [(b**2 - a**2) / 2 for a, b in itertools.pairwise(edges)]  # per radian [um2]
    width = (outer - inner) / cells
    per_hour, per_nm_hour = "1/h", "L/nmol/h"
    numbers = {
        "CL": (0.012, "L/h", "clearance"),
        "V1": (3.0, "L", "central volume"),
        "Q": (0.03, "L/h", "exchange with the periphery"),
        "V2": (3.0, "L", "peripheral volume"),
        "ksyn": (0.1, "nmol/L/h", "synthesis of soluble target"),
        "kdeg": (0.05, per_hour, "degradation of soluble target"),
        "kint": (0.03, per_hour, "loss of the complex"),
        "kon": (0.36, per_nm_hour, "association"),
        "koff": (0.36, per_hour, "dissociation"),
        "Per": (10.8, "um/h", "permeability of the vessel wall"),
        "D": (3.6e4, "um2/h", "diffusion"),
        "eps": (0.24, "1", "space open to the antibody"),
        "Ag": (500.0, "nmol/L", "antigen"),
        "kit": (0.03, per_hour, "internalisation"),
        "ktr": (0.02, per_hour, "release from cells"),
        "kdT": (0.03, per_hour, "turnover of antigen"),
        "decay": (DECAY, per_hour, "physical decay, written out: the model is in concentrations"),
    }
    bind = "kon*plasma*target - koff*complex"
    flows = [
        "plasma -> periphery: Q/V1*plasma - Q/V2*periphery",
        f"plasma -> complex: {bind}",
        f"target -> : {bind}",
        "plasma -> : CL/V1*plasma",
        " -> target: ksyn",
        "target -> : kdeg*target",
        "complex -> : kint*complex",
        *(f"{c} -> : decay*{c}" for c in ("plasma", "periphery", "complex")),
        f" -> free0: {inner / area[0]!r}*Per*(plasma - free0/eps)",
    ]
    compartments: dict[str, object] = {c: "nmol/L" for c in ("plasma", "periphery")}
    compartments |= {"target": {"unit": "nmol/L", "kind": "site", "initial": "ksyn/kdeg"}, "complex": "nmol/L"}
    for i in range(cells):
        free, bound, antigen, inside = f"free{i}", f"bound{i}", f"antigen{i}", f"inside{i}"
        compartments |= {free: "nmol/L", bound: "nmol/L"}
        compartments |= {antigen: {"unit": "nmol/L", "kind": "site", "initial": "Ag"}, inside: "nmol/L"}
        if i > 0:
            across = f"D*(free{i - 1} - {free})"
            flows.append(f"free{i - 1} -> : {edges[i] / width / area[i - 1]!r}*{across}")
            flows.append(f" -> {free}: {edges[i] / width / area[i]!r}*{across}")
        bind = f"kon/eps*{free}*{antigen} - koff*{bound}"
        flows += [f"{free} -> {bound}: {bind}", f"{antigen} -> : {bind}", f" -> {antigen}: kdT*(Ag - {antigen})"]
        flows += [f"{bound} -> {inside}: kit*{bound}", f"{inside} -> : ktr*{inside}"]
        flows += [f"{c} -> : decay*{c}" for c in (free, bound, inside)]
    text = {
        "name": f"cord_{cells}",
        "parameters": {n: {"value": v, "unit": u, "meaning": m} for n, (v, u, m) in numbers.items()},
        "compartments": compartments,
        "flows": flows,
        "administration": {"injection": "plasma"},
    }
    times = np.concatenate([np.geomspace(0.1, 335.0, 50), 336.0 + np.geomspace(0.1, 336.0, 50)])
    return Problem(
        name="P3" if cells == 20 else f"cord of {cells}",
        read=lambda: pk.model_from_dict(text),
        values={n: v for n, (v, _, _) in numbers.items()},
        fixed=frozenset({"decay"}),
        spread=0.25,
        doses=((0.0, "plasma", 300.0), (336.0, "plasma", 150.0)),
        times=times,
        atol=1e-7,
    )


@cache
def problem(name: str) -> Problem:
    """P1, P2s, P2 or P3."""
    if name == "P1":
        return _linear()
    if name == "P3":
        return cord()
    return _receptors(name, dict(list(ORGANS.items())[: {"P2s": 4, "P2": 8}[name]]))
