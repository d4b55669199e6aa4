"""From equations to kernels: right numbers for every allowed function, and a cache that can only cost time."""

from __future__ import annotations

import math
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from pkmodel.assembly import load_model
from pkmodel.compiler.cache import cache_folder, cached_module
from pkmodel.compiler.codegen import generate
from pkmodel.compiler.compiled import Compiled, compile_model
from pkmodel.compiler.derivative import derivative
from pkmodel.compiler.system import build_system
from pkmodel.compiler.tape_reference import evaluate as evaluate_tape
from pkmodel.expressions import evaluate, parse, symbol
from pkmodel.model import Model
from pkmodel.model_file import model_from_dict
from pkmodel.simulation import simulate
from support import ROOT, report

# Laws in real numbers (a, b, k, n, C, t), written twice: for the model, and with NumPy.
LAWS = {
    "exp": ("exp(-a*k)*b", lambda a, b, k, n, C, t: np.exp(-a * k) * b),
    "log": ("log(a + 2)*b", lambda a, b, k, n, C, t: np.log(a + 2) * b),
    "sqrt": ("sqrt(a*b + k)", lambda a, b, k, n, C, t: np.sqrt(a * b + k)),
    "reciprocal root": ("b/sqrt(a + k)", lambda a, b, k, n, C, t: b / np.sqrt(a + k)),
    "tanh": ("tanh(a*k - b)", lambda a, b, k, n, C, t: np.tanh(a * k - b)),
    "abs": ("abs(a - b)*k", lambda a, b, k, n, C, t: (a - b) * k if (a - b).real > 0 else (b - a) * k),
    "abs of a log": ("abs(log(a/b))", lambda a, b, k, n, C, t: abs_of(np.log(a / b))),
    "min": ("min(a, b, k)*n", lambda a, b, k, n, C, t: least(a, b, k) * n),
    "max": ("max(a*n, b, 1)", lambda a, b, k, n, C, t: -least(-a * n, -b, -1.0)),
    "where": ("where(a < b, a*n, b*k)", lambda a, b, k, n, C, t: a * n if a.real < b.real else b * k),
    "where of time": ("where(t > 1, a*t, b)", lambda a, b, k, n, C, t: a * t if t > 1 else b),
    "hill": ("hill(a, k, n)*b", lambda a, b, k, n, C, t: a**n / (k**n + a**n) * b),
    "hill of two": ("hill(a, k, 2)", lambda a, b, k, n, C, t: a**2 / (k**2 + a**2)),
    "power": ("a**n*b**(-1.5)", lambda a, b, k, n, C, t: a**n * b**-1.5),
    "power of a number": ("2**(a*n)", lambda a, b, k, n, C, t: 2 ** (a * n)),
    "whole powers": ("a**3/b**2 - k**-1", lambda a, b, k, n, C, t: a**3 / b**2 - 1 / k),
    "number e": ("exp(1)*a", lambda a, b, k, n, C, t: math.e * a),
    "time": ("a*t**2 + exp(-k*t)", lambda a, b, k, n, C, t: a * t**2 + np.exp(-k * t)),
    "input": ("C*a/(C + k)", lambda a, b, k, n, C, t: C * a / (C + k)),
    "fractions": ("(a + 1)*(b + 2)/(3*(k + n))", lambda a, b, k, n, C, t: (a + 1) * (b + 2) / (3 * (k + n))),
}  # fmt: skip
POINTS = [(0.7, 1.3, 0.9, 1.7, 0.4, 0.5), (2.1, 0.6, 1.9, 2.3, 1.1, 3.0)]
H = 1e-30


def abs_of(z: Any) -> Any:
    return z if z.real >= 0 else -z


def least(*values: Any) -> Any:
    return min(values, key=lambda z: complex(z).real)


def one_law(text: str) -> Model:
    return model_from_dict(
        {
            "name": "law",
            "parameters": {"k": "1 1", "n": "1 1"},
            "compartments": {"a": "1", "b": "1"},
            "inputs": {"C": "1"},
            "flows": [f" -> a: {text}", "a -> b: k*a"],
            "observables": {"seen": {"formula": text, "unit": "1"}},
        }
    )


def programs_at(compiled: Compiled, point: tuple[float, ...]) -> tuple[np.ndarray, ...]:
    """Rates of a, b and the integral, and their derivatives, from the tapes of the autonomous system."""
    programs = compiled.engine().programs
    system, n = programs.system, programs.n
    values = dict(zip(["a", "b", "k", "n", "C", "t"], point, strict=True))
    moments = compiled.moments_of(np.array([[values["k"]], [values["n"]]]))
    values |= {name: float(values["t"] >= m) for name, m in zip(compiled.switches, moments[:, 0], strict=True)}
    y = np.array([values.get(s.name, 0.0) for s in system.states])
    q = np.zeros(programs.nq, dtype=complex)
    q[: len(system.parameters)] = [values.get(s.name, 0.0) for s in system.parameters]
    rows = [system.state(s) for s in compiled.states]

    def rates(moved: str = "") -> np.ndarray:
        z, now = np.zeros(n, dtype=complex), q.copy()
        if moved:
            now[system.parameter(moved)] += 1j * H
        evaluate_tape(programs.tapes["constants"], q=now)
        evaluate_tape(programs.tapes["rhs"], y=y.astype(complex), q=now, f=z)
        return z

    entries = np.zeros(len(programs.plan.pattern))
    now = q.real.copy()
    evaluate_tape(programs.tapes["constants"], q=now)
    evaluate_tape(programs.tapes["jacobian"], y=y, q=now, J=entries)
    jacobian = np.zeros((n, n))
    for (i, j), value in zip(programs.plan.pattern, entries, strict=True):
        jacobian[i, j] = value
    by_p = np.stack([rates("k").imag / H, rates("n").imag / H], axis=1)
    return rates().real[rows], jacobian[np.ix_(rows, rows)], by_p[rows], jacobian[rows, system.state("C"), None]


@pytest.mark.parametrize("law", LAWS)
def test_every_function(law: str) -> None:
    """Values and derivatives of right-hand side, integral and observable, at two points."""
    text = LAWS[law][0]
    f: Any = LAWS[law][1]
    compiled = compile_model(one_law(text))
    for point in POINTS:
        a, b, k, n, c, t = point
        value = float(np.real(f(*(complex(x) for x in point[:5]), t)))
        slopes = {}
        for i, name in enumerate("abknC"):
            z = [complex(x, H if j == i else 0.0) for j, x in enumerate(point[:5])]
            slopes[name] = float(np.imag(f(*z, t)) / H)
        y, u, p = np.array([a, b, 0.0]), np.array([c]), np.array([k, n])
        if compiled.linear:
            A, B, const = compiled.matrices(p)
            dA, dB, dc = compiled.dmatrices(p)
            rhs, jac, dfdu = A @ y + B @ u + const, A, B
            dfdp = np.stack([dA[j] @ y + dB[j] @ u + dc[j] for j in range(2)], axis=1)
        else:
            rhs, jac, dfdp, dfdu = programs_at(compiled, point)
        report(f"{law}: rate", value - k * a, rhs[0], rtol=1e-13, atol=1e-14)
        report(f"{law}: integral's rate", value, rhs[2], rtol=1e-13, atol=1e-14)
        for got, name in ((jac[2, 0], "a"), (jac[2, 1], "b"), (dfdp[2, 0], "k"), (dfdp[2, 1], "n"), (dfdu[2, 0], "C")):
            report(f"{law}: d/d{name}", slopes[name], got, rtol=1e-12, atol=1e-14)
        report(f"{law}: d rate a / da", slopes["a"] - k, jac[0, 0], rtol=1e-12, atol=1e-14)
        times = np.array([t])
        seen = compiled.observe(times, y[:, None], u[:, None], p)
        report(f"{law}: observable", value, seen[0, 0], rtol=1e-13, atol=1e-14)
        eye = np.eye(5)
        dy = np.zeros((5, 3, 1))
        dy[:, :2, 0] = eye[:, :2]
        along = compiled.observe_tangent(times, y[:, None], u[:, None], p, dy, eye[:, 4:, None], eye[:, 2:4])
        for i, name in enumerate("abknC"):
            report(f"{law}: d observable / d{name}", slopes[name], along[i, 0, 0], rtol=1e-12, atol=1e-14)


def test_derivatives_are_finite_in_an_empty_compartment() -> None:
    x, n = symbol("x"), symbol("n")
    for text, by, expected in [
        ("hill(x, 2, n)", x, 0.0),
        ("hill(x, 2, n)", n, 0.0),
        ("x**n", x, 0.0),
        ("x**n", n, 0.0),
        ("min(x, 3*x)", x, 1.0),
        ("max(x, 3*x)", x, 1.0),
        ("abs(x)", x, 1.0),
    ]:
        d = derivative(parse(text, ["x", "n"], "here"), by)
        report(f"d {text} / d {by} at x = 0", expected, evaluate(d, {"x": 0.0, "n": 1.7}))


@given(st.floats(0.2, 3.0), st.floats(0.2, 3.0), st.sampled_from([t for t, _ in LAWS.values()]))
def test_derivatives_agree_with_sympy_away_from_kinks(a: float, b: float, text: str) -> None:
    e = parse(text, ["a", "b", "k", "n", "C"], "law")
    at = {"a": a, "b": b, "k": 0.77, "n": 1.31, "C": 0.9, "t": 1.7}
    for name in ("a", "n"):
        got = evaluate(derivative(e, symbol(name)), at)
        h = 1e-4
        f = [evaluate(e, at | {name: at[name] + s * h}) for s in (-2, -1, 1, 2)]
        smooth = abs(f[0] - 2 * f[1] + 2 * f[2] - f[3]) < 1e-5 and abs(f[0] - f[1] - f[2] + f[3]) < 1e-5
        if smooth:
            assert got == pytest.approx((f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h), rel=1e-6, abs=1e-8)


def test_linear_is_recognised() -> None:
    for rate, linear in [
        ("k*a", True),
        ("k*(a - b) + C", True),
        ("k*a*b", False),
        ("k*a**2/a", True),
        ("k*a/(1 + a)", False),
        ("k*abs(a)", False),
        ("min(k, n)*a", True),
        ("min(a, n)", False),
        ("k*a*t", False),
        ("k*a + where(k < 1, n, 2)", True),
        ("n", True),
        ("k*C**2", False),
    ]:
        model = one_law(rate)
        model = Model(**{f: getattr(model, f) for f in ("name", "parameters", "compartments", "inputs", "flows")})
        assert build_system(model).linear == linear, rate


def test_values_do_not_change_the_kernels() -> None:
    model = load_model("two_compartment")
    one, other = compile_model(model), compile_model(model.replace(CL=1.0, V=2.0))
    assert one is other
    changed = model.rename({"CL": "clearance"})
    assert compile_model(changed).digest != one.digest


def test_generated_text_is_readable_and_harmless() -> None:
    evil = '"""\nimport os\nos.abort()\n"""'
    model = model_from_dict(
        {
            "name": evil,
            "parameters": {"k": "0.1 1/h", "Bmax": "5 nmol"},
            "compartments": {"a": "nmol"},
            "administration": {"iv": "a"},
            "flows": ["a -> : k*a*(Bmax - a)/Bmax"],
            "observables": {"o": "a"},
        }
    )
    text = generate(build_system(model), f"from {evil}")
    print(text)
    assert not [line for line in text.splitlines() if line.startswith(("import os", "os."))]
    assert text.startswith("# from ")
    for part in (
        "def observe(t, y, u, p, out):",
        "def initial(p, out):",
        "'states': ('a', 'integral of o')",
        "'parameters': ('k', 'Bmax')",
    ):
        assert part in text
    report("it runs", 5.0, float(simulate(model, "5 nmol once", [0.0])["o"][0]))


CHILD = """
import json, sys
sys.path.insert(0, {root!r})
from pkmodel.model_file import model_from_dict
from pkmodel.simulation import simulate
from pkmodel.compiler import cache, codegen
import pkmodel.compiler.compiled as compiled
written = []
original = compiled.generate
compiled.generate = lambda *a: written.append(1) or original(*a)
model = model_from_dict({model!r})
run = simulate(model, "10 nmol once", [3.0])
print(json.dumps([float(run["o"][0]), len(written), compiled.compile_model(model).module.__file__]))
"""
RAW = {
    "name": "cached",
    "parameters": {"Vm": "2 nmol/h", "Km": "3 nmol"},
    "compartments": {"a": "nmol"},
    "administration": {"iv": "a"},
    "flows": ["a -> : Vm*a/(Km + a)"],
    "observables": {"o": "a"},
}


def exact() -> float:
    """Km ln(x/x0) + x - x0 = -Vm t at 3 h, by bisection."""
    low, high = 0.0, 10.0
    for _ in range(200):
        x = 0.5 * (low + high)
        low, high = (x, high) if 3 * math.log(x / 10) + x - 10 < -6 else (low, x)
    return x


LINEAR = RAW | {"name": "cached_linear", "parameters": {"k": "0.2 1/h"}, "flows": ["a -> : k*a"]}


def child(folder: Path, raw: dict[str, Any] = RAW) -> tuple[float, int, str]:
    """Simulate in a process of its own with this cache folder."""
    import json

    environment = {**os.environ, "PKMODEL_CACHE": str(folder)}
    code = CHILD.format(root=str(ROOT), model=raw)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    value, written, path = json.loads(done.stdout)
    report("model from the cache", exact() if raw is RAW else 10 * math.exp(-0.6), value, rtol=1e-7)
    return value, written, path


def test_a_second_process_finds_the_file_and_damage_only_costs_time(tmp_path: Path) -> None:
    _, written, path = child(tmp_path)
    file = Path(path)
    assert written == 1 and file.is_relative_to(tmp_path)
    _, written, _ = child(tmp_path)
    assert written == 0, "the second process used the file"
    good = file.read_bytes()
    lines = good.splitlines(keepends=True)
    damages = {
        "last line missing": b"".join(lines[:-2]),
        "one digit changed": good.replace(b"out[0] = ", b"out[0] = 2*", 1),
        "garbage": bytes(range(256)) * 20,
    }
    for what, damage in damages.items():
        print(what)
        file.write_bytes(damage)
        _, written, path = child(tmp_path)
        assert written == 1 and Path(path) == file
        assert file.read_bytes() == good, "written again"


def test_damaged_machine_code_only_costs_time(tmp_path: Path) -> None:
    child(tmp_path, LINEAR)
    found = [*tmp_path.rglob("*.nbi"), *tmp_path.rglob("*.nbc")]
    assert found
    for f in found:
        f.write_bytes(b"garbage")
    child(tmp_path, LINEAR)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "file_not_folder"
    blocked.write_text("")
    _, written, path = child(blocked)
    assert written == 1
    assert not Path(path).is_relative_to(tmp_path)
    assert not Path(path).exists(), "the temporary folder is gone with the process"


def _work(folder: str, index: int, queue: Any) -> None:
    os.environ["PKMODEL_CACHE"] = folder
    value = float(simulate(model_from_dict(RAW), "10 nmol once", [3.0])["o"][0])
    queue.put((index, value))


def test_two_processes_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_work, args=(str(tmp_path), i, queue)) for i in range(2)]
    for w in workers:
        w.start()
    values = dict(queue.get(timeout=120) for _ in workers)
    for w in workers:
        w.join(30)
        assert w.exitcode == 0
    for i in range(2):
        report(f"process {i}", exact(), values[i], rtol=1e-7)
    assert len(list(cache_folder_in(tmp_path).glob("pkmodel_generated_*.py"))) == 1
    assert not list(tmp_path.rglob("*.tmp"))


def cache_folder_in(folder: Path) -> Path:
    return folder / cache_folder().name


def test_an_error_of_the_model_is_not_hidden_by_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PKMODEL_CACHE", str(tmp_path))

    def fails() -> str:
        raise RuntimeError("no code can be written for this")

    with pytest.raises(RuntimeError, match="no code can be written"):
        cached_module("0" * 64, fails)
    assert not list(tmp_path.rglob("*.py"))


def test_formulas_and_fractions_reach_the_kernels() -> None:
    model = model_from_dict(
        {
            "name": "formulas",
            "parameters": {"f": "0.25 1", "g": {"formula": "2*f", "unit": "1"}, "x0": "3 nmol"},
            "compartments": {"a": {"unit": "nmol", "initial": "g*x0"}, "b": "nmol"},
            "administration": {"iv": {"a": "f", "b": "1 - g"}, "oral": "b"},
            "observables": {"o": "a"},
        }
    )
    c = compile_model(model)
    p = np.array([0.25, 3.0])
    assert c.parameters == ("f", "x0") and c.compartments == 2
    assert c.routes == ("iv", "oral", "a", "b"), "administrations, then each amount by its own name"
    np.testing.assert_array_equal(c.initial(p), [1.5, 0, 0])
    np.testing.assert_array_equal(c.initial_dp(p), [[6.0, 0.5], [0, 0], [0, 0]])
    np.testing.assert_array_equal(c.entries(p), [[0.25, 0.5, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(c.entries_dp(p)[0], [[1, 0], [-2, 0], [0, 0]])
    assert build_system(model).rates[0] == sp.Integer(0)
