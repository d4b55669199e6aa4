"""Frames, decay flags and units: what a scanner would report of a curve known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from synthetic import Array, curve

from pkmodel.assembly import load_model
from pkmodel.errors import DataError
from pkmodel.formats.curve import Curve
from pkmodel.labelling import label
from pkmodel.model import Model
from pkmodel.nuclides import nuclide
from pkmodel.observation import Mode, observe
from pkmodel.regimen import Regimen
from pkmodel.simulation import prepare
from support import report

DECAY = nuclide("Lu-177").decay_constant
FRACTION, WASHOUT, INJECTED = 0.02, 0.01, 1000.0
START = np.array([1.0, 20.0, 70.0])
END = np.array([2.0, 26.0, 94.0])


@pytest.fixture(scope="module")
def model() -> Model:
    return label(load_model("organ_1_phase").replace(fraction=FRACTION, k_washout=WASHOUT), "Lu-177")


def _seen(model: Model, c: Curve, mode: Mode | None = None) -> Array:
    observer = observe(model, c, mode=mode)
    problem = prepare(model, Regimen(f"{INJECTED} MBq once"), observer.times)
    return observer.predict(problem.solve())


def _average(rate: float) -> Array:
    """Average of FRACTION*INJECTED*exp(-rate t) over each frame."""
    return np.asarray(
        FRACTION * INJECTED * (np.exp(-rate * START) - np.exp(-rate * END)) / (rate * (END - START)), dtype=float
    )


def test_a_frame_is_its_average(model: Model) -> None:
    got = _seen(model, curve("liver", START, np.ones(3), t_end=END))
    for k, expected in enumerate(_average(WASHOUT + DECAY)):
        report(f"average of frame {k + 1} [MBq]", float(expected), float(got[k]), rtol=1e-10)


def test_a_corrected_frame_has_the_scanners_factor(model: Model) -> None:
    got = _seen(model, curve("liver", START, np.ones(3), t_end=END, decay_corrected=True))
    x = DECAY * (END - START)
    factor = np.exp(DECAY * START) * x / (1 - np.exp(-x))
    for k, expected in enumerate(_average(WASHOUT + DECAY) * factor):
        report(f"decay-corrected average of frame {k + 1} [MBq]", float(expected), float(got[k]), rtol=1e-10)


def test_a_midpoint_is_the_value_there(model: Model) -> None:
    got = _seen(model, curve("liver", START, np.ones(3), t_end=END), mode="midpoint")
    for k, t in enumerate((START + END) / 2):
        expected = FRACTION * INJECTED * math.exp(-(WASHOUT + DECAY) * t)
        report(f"value in the middle of frame {k + 1} [MBq]", expected, float(got[k]), rtol=1e-10)


def test_a_corrected_sample_does_not_decay(model: Model) -> None:
    got = _seen(model, curve("liver", START, np.ones(3), decay_corrected=True))
    for k, t in enumerate(START):
        expected = FRACTION * INJECTED * math.exp(-WASHOUT * t)
        report(f"decay-corrected sample at {t} h [MBq]", expected, float(got[k]), rtol=1e-10)


def test_samples_and_frames_may_be_mixed(model: Model) -> None:
    mixed = curve("liver", START, np.ones(3), t_end=np.array([1.0, 26.0, 70.0]))
    got = _seen(model, mixed)
    rate = WASHOUT + DECAY
    report("a sample among frames [MBq]", FRACTION * INJECTED * math.exp(-rate), float(got[0]), rtol=1e-10)
    report("a frame among samples [MBq]", float(_average(rate)[1]), float(got[1]), rtol=1e-10)


@pytest.mark.parametrize(("unit", "per_mbq"), [("kBq", 1e3), ("%IA", 100 / INJECTED), ("GBq", 1e-3)])
def test_predictions_come_in_the_curves_unit(model: Model, unit: str, per_mbq: float) -> None:
    got = _seen(model, curve("liver", START, np.ones(3), unit=unit))
    expected = FRACTION * INJECTED * math.exp(-(WASHOUT + DECAY)) * per_mbq
    report(f"sample in {unit}", expected, float(got[0]), rtol=1e-10)


def test_tangents_are_those_of_the_predictions(model: Model) -> None:
    c = curve("liver", START, np.ones(3), t_end=END, decay_corrected=True)
    observer = observe(model, c)
    problem = prepare(model, Regimen(f"{INJECTED} MBq once"), observer.times)
    j = problem.compiled.parameters.index("fraction")
    solution = problem.solve(directions=[j])
    expected = observer.predict(solution) / FRACTION  # linear in the fraction
    for k in range(3):
        report(f"d/d fraction of frame {k + 1}", float(expected[k]), float(observer.tangent(solution)[0, k]), rtol=1e-9)


def test_a_unit_that_cannot_be_related_names_both(model: Model) -> None:
    with pytest.raises(DataError, match=r"'kBq/mL' cannot be compared with observable organ .*to_unit"):
        observe(model, curve("liver", START, np.ones(3), unit="kBq/mL"))


def test_percent_of_an_unknown_injection_is_refused(model: Model) -> None:
    with pytest.raises(DataError, match="%IA"):
        observe(model, curve("liver", START, np.ones(3), unit="%IA", injected_activity=None))


def test_another_nuclide_is_refused(model: Model) -> None:
    with pytest.raises(DataError, match=r"measured with I-131, but the model is labelled with Lu-177"):
        observe(model, curve("liver", START, np.ones(3), nuclide="I-131"))


def test_uncorrected_data_need_a_model_that_decays() -> None:
    with pytest.raises(DataError, match=r"the model must decay: use label\(model, 'C-11'\)"):
        observe(load_model("two_tissue"), curve("FC", START, np.ones(3), unit="kBq/mL", nuclide="C-11"))


def test_a_whole_body_model_needs_the_regions_name() -> None:
    body = label(load_model("whole_body_linear"), "Lu-177")
    with pytest.raises(DataError, match=r"no observable for region 'spleen'; known: blood, kidneys"):
        observe(body, curve("spleen", START, np.ones(3)))
