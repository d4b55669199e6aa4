"""Structural identifiability against textbook answers, and its arithmetic against symbolic derivatives."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sympy as sp

from pkmodel.assembly import load_model
from pkmodel.errors import ModelError
from pkmodel.expressions import parse, symbol, to_text
from pkmodel.identifiability import Dose, identify
from pkmodel.identifiability.plan import Plan
from pkmodel.identifiability.residues import PRIMES, Point
from pkmodel.identifiability.series import Series
from pkmodel.labelling import label
from pkmodel.model import Compartment, Flow, Model, Observable, Parameter
from pkmodel.model_file import model_from_dict
from pkmodel.regimen import Regimen
from support import shared


def build(parameters: str, compartments: Any, flows: list[str], observables: Any, **more: Any) -> Model:
    """A model of parameters "name unit, name unit"."""
    values = {p.split()[0]: f"1 {p.split()[1]}" for p in parameters.split(", ")}
    if isinstance(compartments, str):
        compartments = dict.fromkeys(compartments.split(), "nmol")
    more.setdefault("administration", {"iv": next(iter(compartments))})
    raw = {"name": "m", "parameters": values, "compartments": compartments, "flows": flows, "observables": observables}
    return model_from_dict(raw | more)


def same(found: tuple[sp.Expr, ...], expected: set[str], names: Any) -> None:
    """The combinations, whatever the order of their terms."""
    wanted = {parse(e, names, "test") for e in expected}
    print("combinations:", ", ".join(map(to_text, found)))
    assert {sp.expand(f) for f in found} == {sp.expand(w) for w in wanted}


ONE = build("CL L/h, V L", "a", ["a -> : CL*a/V"], {"c": "a/V"})
MAMMILLARY = build(
    "k10 1/h, k12 1/h, k20 1/h, k21 1/h, V L",
    "a b",
    ["a -> : k10*a", "b -> : k20*b", "a -> b: k12*a - k21*b"],
    {"c": "a/V"},
)
MICHAELIS = build("Vm nmol/h, Km nmol/L, V L", "a", ["a -> : Vm*a/V/(Km + a/V)"], {"c": "a/V"})


def test_one_compartment() -> None:
    """A known bolus gives V from the first value and CL from the slope; an unknown dose or scale, only their ratio."""
    assert identify(ONE)
    for result, factor in (
        (identify(ONE, scale_unknown=True), "scale_of_c"),
        (identify(ONE, doses=Dose(into="iv", known=False)), "dose_into_iv"),
    ):
        assert result.rank == 2 and not result.identifiable
        same(result.combinations, {"CL/V", f"CL/{factor}"}, ["CL", "V", factor])
    infused = identify(ONE, doses=Dose(into="iv", infusion=True))
    assert infused and "infusion into iv" in str(infused)


def test_absorption() -> None:
    """Flip-flop: ka and ke may change places, so two solutions, which is local identifiability (Godfrey 1983)."""
    text = "ka 1/h, CL L/h, V L, F 1"
    flows = ["gut -> a: ka*gut", "a -> : CL*a/V"]
    given = {"oral": {"gut": "F"}, "iv": "a"}
    model = build(text, "gut a", flows, {"c": "a/V"}, administration=given)
    oral = identify(model, doses="oral")
    assert oral.identifiable == ("ka",) and oral.not_identifiable == ("CL", "V", "F")
    same(oral.combinations, {"CL/V", "CL/F"}, model.parameters)
    assert identify(model, doses="oral", known=["F"])
    assert identify(model, doses=["iv", Dose(into="oral", time=24.0)])  # on two days: both routes tell F
    assert identify(model, doses=Regimen("10 nmol once", into="oral")).rank == 3
    plain = build("CL L/h, V L, F 1", "a", ["a -> : CL*a/V"], {"c": "a/V"})
    same(identify(plain, doses=Dose(into="iv", fraction="F")).combinations, {"CL/V", "CL/F"}, plain.parameters)


def test_two_compartments_with_elimination_from_both() -> None:
    """Only sums and a cycle are determined (Godfrey 1983; Meshkat et al., arXiv:1410.8587)."""
    result = identify(MAMMILLARY)
    assert result.identifiable == ("V",) and result.rank == 4 and result.complete
    same(result.combinations, {"k10 + k12", "k20 + k21", "k12*k21"}, MAMMILLARY.parameters)
    assert dict(result.helps) == {"b": ("k10", "k12", "k20", "k21")}
    assert identify(MAMMILLARY, known=["k20"]) and identify(MAMMILLARY, ["c", "b"])
    assert "observing b determines" in str(result) and not result


def test_two_tissue_compartments() -> None:
    """Identifiable from a measured input; a scale (partial volume) leaves the ratios k2, k3, k4."""
    model = load_model("two_tissue")
    assert identify(model, doses=[])
    scaled = identify(model, scale_unknown=True)
    assert scaled.identifiable == ("k2", "k3", "k4")
    names = [*model.parameters, "scale_of_organ"]
    same(scaled.combinations, {"vB*scale_of_organ", "K1*scale_of_organ*(1 - vB)"}, names)
    assert scaled.notes == ("delays were not examined: delay",)


def tmdd(parameters: str, **more: Any) -> dict[str, Any]:
    units = {"kel": "1/h", "kon": "L/nmol/h", "koff": "1/h", "ksyn": "nmol/L/h", "kdeg": "1/h", "kint": "1/h", "V": "L"}
    units |= {"Kss": "nmol/L", "KM": "nmol/L", "Vmax": "nmol/L/h"}
    return {"name": "tmdd", "parameters": {p: f"1 {units[p]}" for p in parameters.split()}, **more}


QSS = "(Ct - Rt - Kss + sqrt((Ct - Rt - Kss)**2 + 4*Kss*Ct))/2"


def test_target_mediated_disposition() -> None:
    """The full model and its approximations are identifiable from one curve (Eudy et al. 2015,
    doi:10.1208/s12248-015-9795-8); in quasi-steady state kon and koff only as Kss."""
    drug = {"C": "nmol/L", "R": {"unit": "nmol/L", "initial": "ksyn/kdeg"}, "RC": "nmol/L"}
    full = model_from_dict(
        tmdd(
            "kel kon koff ksyn kdeg kint V",
            compartments=drug,
            administration={"iv": {"C": "1/V"}},
            flows=[
                "C -> : kel*C",
                "C -> RC: kon*C*R - koff*RC",
                " -> R: ksyn - kdeg*R - kon*C*R + koff*RC",
                "RC -> : kint*RC",
            ],
            observables={"free": "C", "total": "C + RC"},
        )
    )
    assert identify(full, ["free"]) and identify(full, ["total"])
    scaled = identify(full, ["free"], scale_unknown=True)
    same(scaled.combinations, {"kon*ksyn", "kon/V", "kon/scale_of_free"}, [*full.parameters, "scale_of_free"])
    quasi: dict[str, Any] = {
        "compartments": {"Ct": "nmol/L", "Rt": {"unit": "nmol/L", "initial": "ksyn/kdeg"}},
        "administration": {"iv": {"Ct": "1/V"}},
        "flows": [
            f"Ct -> : kel*{QSS} + kint*(Ct - {QSS})",
            f" -> Rt: ksyn - kdeg*Rt - (kint - kdeg)*(Ct - {QSS})",
        ],
        "observables": {"free": QSS, "total": "Ct"},
    }
    own = model_from_dict(tmdd("kel Kss ksyn kdeg kint V", **quasi))
    assert identify(own, ["free"]) and identify(own, ["total"])
    raw = tmdd("kel kon koff ksyn kdeg kint V", **quasi)
    raw["parameters"]["Kss"] = {"formula": "(koff + kint)/kon", "unit": "nmol/L"}
    micro = identify(model_from_dict(raw), ["free"])
    assert micro.not_identifiable == ("kon", "koff")
    same(micro.combinations, {"Kss"}, ["Kss"])  # a formula of the model, by its name
    raw["flows"] = [f.replace("Kss", "((koff + kint)/kon)") for f in raw["flows"]]
    raw["observables"] = {"total": "Ct"}
    del raw["parameters"]["Kss"]
    same(identify(model_from_dict(raw)).combinations, {"(koff + kint)/kon"}, raw["parameters"])
    simple = model_from_dict(
        tmdd(
            "kel Vmax KM V",
            compartments={"C": "nmol/L"},
            administration={"iv": {"C": "1/V"}},
            flows=["C -> : kel*C + Vmax*C/(KM + C)"],
            observables={"free": "C"},
        )
    )
    assert identify(simple)


def test_michaelis_menten() -> None:
    """By hand: with c = s*a/V, the rate of change of c contains Vm*s/V and Km*s, and the start s/V."""
    assert identify(MICHAELIS)
    scaled = identify(MICHAELIS, scale_unknown=True)
    assert scaled.identifiable == ("Vm",)
    same(scaled.combinations, {"Km*V", "Km*scale_of_c"}, [*MICHAELIS.parameters, "scale_of_c"])
    dose = identify(MICHAELIS, doses=Dose(into="iv", known=False))
    assert dose.identifiable == ("Km",) and dose.rank == 3


def receptors(rate: str) -> Model:
    return build(
        "k1 1/h, k2 1/h, kon L/nmol/h, koff 1/h, Bmax nmol/L, kint 1/h",
        "free bound",
        [" -> free: k1*plasma - k2*free", f"free -> bound: {rate} - koff*bound", "bound -> : kint*bound"],
        {"organ": "free + bound"},
        inputs={"plasma": "nmol"},
        administration={},
    )


def test_receptors_far_from_saturation() -> None:
    """An organ is a sum: its transfer function, by hand, is k1 (s + k3 + koff + kint) over
    s^2 + (k2 + k3 + koff + kint) s + k2 (koff + kint) + k3 kint, with k3 = kon*Bmax."""
    linear_model = receptors("kon*Bmax*free")
    linear = identify(linear_model)
    assert linear.identifiable == ("k1", "k2") and linear.rank == 4
    same(linear.combinations, {"kon*Bmax + koff + kint", "kon*Bmax*(kint - k2)"}, receptors("free").parameters)
    trapped = identify(receptors("kon*Bmax*free"), ["free"], known=["kint"])
    assert trapped.not_identifiable == ("kon", "Bmax")
    same(trapped.combinations, {"kon*Bmax"}, ["kon", "Bmax"])
    idle = replace(linear_model, parameters={**linear_model.parameters, "idle": Parameter(name="idle", unit="1")})
    again = identify(idle)  # one more direction, in which nothing changes at all
    assert again.no_effect == ("idle",) and again.combinations == linear.combinations


def test_what_saturates_tells_more() -> None:
    flows = ["free -> : ke*free", "free -> bound: kon/V*free*(Bmax - bound) - koff*bound"]
    model = build("kon L/nmol/h, koff 1/h, Bmax nmol, ke 1/h, V L", "free bound", flows, {"organ": "free + bound"})
    result = identify(model)
    assert result.identifiable == ("koff", "Bmax", "ke")
    same(result.combinations, {"kon/V"}, model.parameters)
    assert identify(model, ["organ", "free/V"])


def markov_rank(model: Model, output: sp.Expr) -> tuple[int, set[str]]:
    """Rank of a linear model from its first 2n Markov parameters C A^k b, and which parameters they determine."""
    names = [symbol(n) for n in model.parameters]
    x = [symbol(c) for c in model.compartments]
    A = sp.Matrix([[sp.diff(model.rate_of_change(c), y) for y in x] for c in model.compartments])
    row = sp.Matrix([[sp.diff(output, y) for y in x]])
    at = {n: sp.Rational(7 * k * k + 3 * k + 2, 5 + k) for k, n in enumerate(names, 1)}
    markov: list[sp.Expr] = []
    for _ in range(2 * len(x)):
        markov.append(row[0])
        row = row * A
    J = sp.Matrix([[sp.diff(c, n).subs(at) for n in names] for c in markov])
    null = J.nullspace()
    return J.rank(), {n.name for k, n in enumerate(names) if all(z[k] == 0 for z in null)}


@pytest.mark.parametrize("seed", range(6))
def test_random_linear_models(seed: int) -> None:
    """Rank and determined parameters from the Markov parameters, differentiated by SymPy."""
    rng = np.random.default_rng(seed)
    n = 3
    flows, names = [], ["V L"]
    for i in range(n):
        for j in range(-1, n):
            if j != i and (rng.random() < 0.55 or (i == 0 and j == 1)):
                names.append(f"k{i}{9 if j < 0 else j} 1/h")
                flows.append(f"x{i} -> {f'x{j}' if j >= 0 else ''}: k{i}{9 if j < 0 else j}*x{i}")
    seen = "(x0 + x1)/V" if seed % 2 else "x0/V"
    model = build(", ".join(names), " ".join(f"x{i}" for i in range(n)), flows, {"y": seen})
    rank, determined = markov_rank(model, model.observables["y"].expression)
    result = identify(model)
    print(result)
    assert (result.rank, {*result.identifiable}) == (rank, determined)


def test_series_are_those_of_symbolic_differentiation() -> None:
    """Every coefficient and derivative of a rate with exp, log, roots, powers and time, modulo the prime."""
    p1, p2, p3, x, t = (symbol(n) for n in ("p1", "p2", "p3", "x", "t"))
    rate = -p1 * x * sp.exp(-p2 * x) / (p3 + x) + sp.sqrt(x) * t - p2 * sp.log(x + p1) + x**p3 * sp.exp(-p1 * t)
    start = 1 / p2
    orders = 3
    for attempt in range(20):
        plan = Plan((x,), (), frozenset(), frozenset(), "test")
        place = Point(PRIMES[0], f"test {attempt}", [p1, p2, p3], {})
        try:
            series = Series(plan, place, [plan.series(rate)], [place.constant(start)], {}, orders)
            for _ in range(orders + 1):
                series.advance()
            break
        except ZeroDivisionError:
            continue
    prime, values = place.p, {n: int(place.constant(n)[0]) for n in (p1, p2, p3)}
    x0 = int(place.constant(start)[0])
    # what is transcendental at the start was drawn; take what was drawn from the first coefficients
    first = {e: int(series.v[plan.series(e), 0]) for e in (sp.exp(-p2 * x), sp.sqrt(x), sp.log(x + p1), x**p3)}
    log_x = int(series.v[plan.series(sp.log(x)), 0])

    def residue(e: sp.Expr) -> int:
        if e in first:
            return first[e]
        if e.is_Rational:
            return int(e.p) * pow(int(e.q), -1, prime) % prime
        if e == x:
            return x0
        if e == t:
            return 0
        if e in values:
            return values[e]
        if e == sp.log(x):
            return log_x
        if isinstance(e, sp.exp):  # exp(-p1 t) at 0
            assert e.args[0].subs(t, 0) == 0
            return 1
        if isinstance(e, sp.Pow) and e.exp.is_Integer:
            return pow(residue(e.base), int(e.exp), prime)
        if isinstance(e, sp.Pow) and e.base == x and (2 * e.exp).is_Integer:
            return pow(first[sp.sqrt(x)], int(2 * e.exp), prime)
        if isinstance(e, sp.Pow) and e.base == x:  # x**(p3 - 1) and the like
            return first[x**p3] * pow(x0, int(e.exp - p3), prime) % prime
        total = 0 if isinstance(e, sp.Add) else 1
        for a in e.args:
            total = (total + residue(a) if isinstance(e, sp.Add) else total * residue(a)) % prime
        return total

    coefficient = x
    for k in range(orders + 1):
        slopes = [
            (residue(sp.diff(coefficient, n)) + residue(sp.diff(coefficient, x)) * residue(sp.diff(start, n))) % prime
            for n in (p1, p2, p3)
        ]
        got = [int(c) for c in series.R[0, orders - k]]
        assert got == [residue(coefficient), *slopes], f"order {k}"
        coefficient = (sp.diff(coefficient, t) + sp.diff(coefficient, x) * rate) / (k + 1)


@pytest.mark.parametrize(
    ("rate", "parameters", "determined"),
    [
        ("k*a*exp(-r*t)", "k 1/h, r 1/h, V L", {"k", "r", "V"}),
        ("k*a*exp(-b)", "k 1/h, b 1, V L", {"V"}),
        ("k*a**b/q**(b - 1)", "k 1/h, q nmol, b 1, V L", {"V", "b"}),
        ("k*a*where(t < 5, 1, 2)/(1 + b*r*t)", "k 1/h, b 1, r 1/h, V L", {"k", "V"}),
        ("k*q*tanh(a/q)", "k 1/h, q nmol, V L", {"k", "q", "V"}),
        ("k*sqrt(q)*sqrt(a)", "k 1/h, q nmol, V L", {"V"}),
        ("max(k, r/2)*a*where(r > 2*k, 2, 1)", "k 1/h, r 1/h, V L", {"k", "V"}),
    ],
)
def test_rates_that_are_not_rational(rate: str, parameters: str, determined: set[str]) -> None:
    found = identify(build(parameters, "a", [f"a -> : {rate}"], {"c": "a/V"}))
    print(found)
    assert {*found.identifiable} == determined


def test_a_broken_power_of_what_is_empty() -> None:
    flows = ["gut -> a: ka*gut", "a -> : Vm*hill(a, k, n)"]
    model = build("ka 1/h, Vm nmol/h, k nmol, n 1, V L", "gut a", flows, {"c": "a/V"})
    with pytest.raises(ModelError, match=r"has no power series where .* is zero, just after a dose; .*known=\['n'\]"):
        identify(model)
    result = identify(model, known=["n"])
    assert result and "the power n of what starts at zero was examined as 2" in result.notes


def test_what_is_fixed_or_has_no_effect() -> None:
    model = label(load_model("two_compartment"), "Lu-177")
    result = identify(model)
    assert result.identifiable == ("CL", "V", "Q", "V2") and result.no_effect == ("KA",)
    assert "lambda_phys" not in result.parameters and "without effect    KA" in str(result)
    cold = label(MICHAELIS, "Lu-177", cold=True)
    assert identify(cold, doses=Regimen("1 GBq once", amount="5 nmol"))
    assert identify(cold) and not identify(label(MICHAELIS, "Lu-177"), scale_unknown=True)


def test_the_size_of_the_search() -> None:
    """A body with four receptor organs, hot and cold: 34 states, 32 parameters."""
    model = receptor_body()
    started = time.process_time()
    everything = identify(model)
    plasma = identify(model, ["plasma"])
    organs = identify(model, ["kid", "tum"])
    spent = time.process_time() - started
    print(f"{len(model.compartments)} states, {len(everything.parameters)} parameters, three questions: {spent:.2f} s")
    assert everything and spent < 6.0
    assert plasma.not_identifiable == plasma.no_effect == tuple(f"krel_{o}" for o in ("kid", "tum", "spl", "liv"))
    # without a concentration, volumes and flows may all be scaled, and kon with them
    assert organs.complete and organs.helps["plasma"][:3] == ("kon", "Vp", "GFR")
    assert {*organs.identifiable} >= {"koff", "Rt_kid", "kint_kid", "krel_kid", "Rt_liv"}


def receptor_body() -> Model:
    """Problem P2s of the benchmarks."""
    path = shared("bench/models.py")
    spec = importlib.util.spec_from_file_location("bench_models", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    raw = module.get("P2s")
    swap: Mapping[Any, sp.Symbol] = {s: symbol(str(s)) for s in [*raw.states, *raw.params]}
    rates = {str(s): f.xreplace(swap) for s, f in zip(raw.states, raw.f, strict=True) if not str(s).startswith("TIA")}
    organs = ("kid", "tum", "spl", "liv")
    seen = {o: sp.Add(*(symbol(f"{part}h_{o}") for part in "VIBN")) for o in organs}
    seen["plasma"] = symbol("Ph") / symbol("Vp")
    return Model(
        name="P2s",
        parameters={str(p): Parameter(name=str(p), unit="1", value=1.5, fixed=str(p) == "lam") for p in raw.params},
        compartments={s: Compartment(name=s, unit="nmol") for s in rates},
        flows=tuple(Flow(source="", target=s, rate=rate) for s, rate in rates.items()),
        observables={o: Observable(name=o, unit="nmol", expression=e) for o, e in seen.items()},
        administration={"iv": {"Ph": sp.Integer(1)}, "iv_cold": {"Pc": sp.Integer(1)}},
    )


def test_refusals() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"observed": ["d"]}, "'d' .* is not known"),
        ({"observed": []}, "nothing is observed"),
        ({"doses": "oral"}, "no way to give a dose into 'oral'; known: iv, a"),
        ({"known": ["W"]}, "W: no such parameter"),
        ({"doses": Dose(into="iv", fraction="F")}, "fraction 'F' of a dose is not a parameter"),
        ({"scale_unknown": ["b"]}, "b is not observed; observed: c"),
    ]
    for arguments, says in cases:
        with pytest.raises(ModelError, match=says):
            identify(ONE, **arguments)
    with pytest.raises(ModelError, match="k10 is a formula; say what"):
        identify(load_model("psma617_siebinga2023"), known=["k10"])
    switch = build("k 1/h, q nmol", "a", ["a -> : k*where(a > q, a, q)"], {"c": "a"})
    with pytest.raises(ModelError, match="switches on a state"):
        identify(switch)
    with pytest.raises(ModelError, match="has no power series in general"):
        identify(build("k 1/h, q nmol", "a", ["a -> : k*min(a, q)"], {"c": "a"}))
    empty = build("k nmol/h, q nmol", "a b", ["a -> b: k*a/b"], {"c": "a"})
    with pytest.raises(ModelError, match="divides by what is zero just after a dose"):
        identify(empty)
