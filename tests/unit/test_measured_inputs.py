"""Inputs measured in blood: converted by what they say of themselves, refused by name where they do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from synthetic import Array, curve, curves, protocol

from pkmodel.assembly import load_model
from pkmodel.data import Curves
from pkmodel.errors import DataError, FitError, PkmodelError
from pkmodel.inference.fitting import fit
from pkmodel.inference.measured_inputs import read_inputs
from pkmodel.inference.result import Fit
from pkmodel.inputs import InputCurve
from pkmodel.labelling import label
from pkmodel.nuclides import nuclide
from support import report

KNOTS = np.arange(0.0, 60.005, 0.01) / 60  # fine, so that a straight line between knots is straight corrected or not
CP = np.where(KNOTS > 0, 40 * KNOTS * 60 * np.exp(-KNOTS * 60 / 1.5) + 3 * -np.expm1(-KNOTS * 60), 0.0)
START = np.array([0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0]) / 60
END = np.array([1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0]) / 60
DECAY = nuclide("C-11").decay_constant
RULES = protocol("K1 k2", fixed={"vB": 0.05}, error={"kind": "constant"})


def _blood(**changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"kind": "plasma", "unit": "kBq/mL", "nuclide": "C-11", "decay_corrected": True}
    return {n: curve(n, KNOTS, CP, **(settings | changes)) for n in ("Cp", "Cb")}


def _tissue(at: Array = (START + END) / 2) -> Curves:
    """K1 0.2, k2 0.1 seen through the model itself at samples, decay-corrected."""
    from pkmodel.simulation import simulate

    model = load_model("one_tissue").replace(K1=0.2, k2=0.1, vB=0.05)
    truth = simulate(model, None, np.concatenate([[0.0], at]), inputs={n: (KNOTS, CP) for n in ("Cp", "Cb")})
    return curves(curve("FC", at, truth["organ"].to_numpy()[1:], unit="kBq/mL", nuclide="C-11", decay_corrected=True))


def _check(name: str, got: Fit, rtol: float = 1e-6) -> None:
    report(f"K1, {name}", 0.2, got.values["K1[FC]"], rtol=rtol)
    report(f"k2, {name}", 0.1, got.values["k2[FC]"], rtol=rtol)


def test_curves_and_arrays_say_the_same() -> None:
    data = _tissue()
    _check("arrays", fit("one_tissue", data, RULES, inputs={n: (KNOTS, CP) for n in ("Cp", "Cb")}))
    _check("curves", fit("one_tissue", data, RULES, inputs=_blood()))


def test_the_unit_of_an_input_is_converted() -> None:
    """Plasma in Bq/mL and tissue in kBq/mL, the trap of a public data set."""
    inputs = {n: c.to_unit("Bq/mL") for n, c in _blood().items()}
    assert inputs["Cp"].value.max() > 1e4
    _check("input in Bq/mL", fit("one_tissue", _tissue(), RULES, inputs=inputs))
    _check("tissue in Bq/mL", fit("one_tissue", _tissue().to_unit("Bq/mL"), RULES, inputs=_blood()))


def test_the_decay_flag_of_an_input_is_heeded_either_way() -> None:
    """Corrected or not, tissue and blood in any combination: the same biology."""
    for tissue in (_tissue(), _tissue().decay_uncorrect()):
        for blood in (_blood(), {n: c.decay_uncorrect() for n, c in _blood().items()}):
            flags = f"tissue corrected {tissue['FC'].decay_corrected}, blood {blood['Cp'].decay_corrected}"
            got = fit("one_tissue", tissue, RULES, inputs=blood)
            assert bool(got.model.nuclide) is not tissue["FC"].decay_corrected
            _check(flags, got)


def test_arrays_beside_uncorrected_curves_are_taken_as_uncorrected_and_that_is_said() -> None:
    raw = {n: (KNOTS, CP * np.exp(-DECAY * KNOTS)) for n in ("Cp", "Cb")}
    got = fit("one_tissue", _tissue().decay_uncorrect(), RULES, inputs=raw)
    _check("arrays of uncorrected blood", got)
    assert any("Cp, Cb was taken as not decay-corrected" in w for w in got.warnings)


def test_frames_and_samples_of_an_uncorrected_scan() -> None:
    """Averages over frames of decaying tissue: exact, where correcting each frame would not be."""
    from pkmodel.simulation import simulate

    model = label(load_model("one_tissue").replace(K1=0.2, k2=0.1, vB=0.05), "C-11")
    edges = np.unique(np.concatenate([START, END]))
    raw = {n: (KNOTS, CP * np.exp(-DECAY * KNOTS)) for n in ("Cp", "Cb")}
    area = simulate(model, None, edges, inputs=raw)["integral_organ"].to_numpy()
    y = np.diff(area) / np.diff(edges)
    data = curves(curve("FC", START, y, t_end=END, unit="kBq/mL", nuclide="C-11"))
    _check("frames of uncorrected tissue", fit("one_tissue", data, RULES, inputs=raw), rtol=1e-8)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({"Cp": (KNOTS, CP)}, r"input Cb \[kBq/mL\] is not given; pass inputs=\{'Cb': curve\}"),
    "unknown": (_blood() | {"Ca": (KNOTS, CP)}, "Ca: no such input; known: Cp, Cb"),
    "not a pair": (_blood() | {"Cp": 3.0}, r"input Cp: expected a Curve or \(times \[h\], values\), found float"),
    "text": (_blood() | {"Cp": (["a"], ["b"])}, "input Cp: expected a Curve"),
    "lengths": (_blood() | {"Cp": (KNOTS, CP[1:])}, "input Cp: needs at least two times and as many values"),
    "one point": (_blood() | {"Cp": ([0.0], [1.0])}, "input Cp: needs at least two times"),
    "nan": (_blood() | {"Cp": (KNOTS, np.where(KNOTS[5] == KNOTS, np.nan, CP))}, "input Cp: knot 6 is not finite"),
    "backwards": (_blood() | {"Cp": (KNOTS[::-1], CP)}, "input Cp: times must increase; knot 2"),
    "other nuclide": (_blood(nuclide="F-18"), "input Cp: measured with F-18, but the curves with C-11"),
    "other unit": (_blood(unit="MBq"), "MBq"),
    "injected": (_blood(unit="%IA/g"), "kBq/mL"),
    "ends early": ({n: (KNOTS[:4000], CP[:4000]) for n in ("Cp", "Cb")}, r"input Cp ends at 0\.66.* measure or extra"),
}


@pytest.mark.parametrize("case", BAD)
def test_an_input_that_does_not_fit_is_refused(case: str) -> None:
    inputs, message = BAD[case]
    with pytest.raises((FitError, DataError, PkmodelError), match=message):
        fit("one_tissue", _tissue(), RULES, inputs=inputs)


def test_a_delay_cannot_be_fitted_across_a_jump() -> None:
    jump = {n: (KNOTS, CP + 5.0) for n in ("Cp", "Cb")}
    with pytest.raises(FitError, match="input Cp starts at 5, not zero, and a delay cannot be fitted across that jump"):
        fit("one_tissue", _tissue(), protocol("K1 k2 delay", fixed={"vB": 0.05}), inputs=jump)


def test_an_input_made_ready_is_taken_as_it_is() -> None:
    ready = {n: InputCurve(KNOTS, CP) for n in ("Cp", "Cb")}
    got, notes = read_inputs(load_model("one_tissue"), _tissue(), ready)
    assert got == ready and notes == []
