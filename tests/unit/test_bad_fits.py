"""What does not go together is refused before anything is computed, and the message says what to change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from synthetic import curve, curves, protocol

from pkmodel.assembly import load_model
from pkmodel.data import Curves, load_study
from pkmodel.errors import FitError, LibraryError, ModelError, PkmodelError, UnitError
from pkmodel.inference.fitting import fit
from pkmodel.labelling import label

T = np.array([2.0, 24.0, 72.0, 120.0])
Y = np.array([20.0, 15.0, 6.0, 3.0])
TWO, THREE = "fraction k_washout", "fraction k_uptake k_washout"


def _liver(**changes: Any) -> Curves:
    return curves(curve("liver", T, changes.pop("value", Y), **changes))


def _pet(**settings: Any) -> Any:
    t = np.array([0.0, 0.05, 0.2, 1.0])
    inputs = {n: (t, np.array([0.0, 50.0, 10.0, 2.0])) for n in ("Cp", "Cb")}
    brain = curves(curve("FC", t[1:], [5.0, 8, 6], unit="kBq/mL", nuclide="C-11", decay_corrected=True))
    return fit("two_tissue", brain, protocol(settings.pop("free", "K1 k2"), **settings), inputs=inputs)


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "more parameters than points": (
        lambda: fit("organ_2_phase", curves(curve("liver", T[:2], Y[:2])), protocol(THREE)),
        r"liver: 3 free parameters \(fraction\[liver\], .*\) but only 2 points; fix some, share some",
    ),
    "zero weights leave too few points": (
        lambda: fit(
            "organ_2_phase", _liver(weights=np.array([1.0, 0, 0, 1])), protocol(THREE, error={"kind": "weights"})
        ),
        "but only 2 points",
    ),
    "unknown parameter": (
        lambda: fit("organ_1_phase", _liver(), protocol("fraction k_wash")),
        "free 'k_wash' is not a parameter of .*; known: fraction, k_washout",
    ),
    "unknown fixed": (
        lambda: fit("organ_1_phase", _liver(), protocol("fraction", fixed={"k": 1.0})),
        "fixed 'k' is not a",
    ),
    "unknown shared": (
        lambda: fit("organ_1_phase", _liver(), protocol(TWO, shared=["k"])),
        "shared 'k' is not a param",
    ),
    "shared but not free": (
        lambda: fit("organ_1_phase", _liver(), protocol("fraction", shared=["k_washout"])),
        "shared 'k_washout' is not free",
    ),
    "shared in a whole-body model": (
        lambda: fit("whole_body_linear", _liver(), protocol("k_liver_in", shared=["k_liver_in"])),
        "describes all regions at once",
    ),
    "a physical constant": (
        lambda: fit("organ_1_phase", _liver(), protocol("fraction lambda_phys")),
        "lambda_phys is a physical constant .* never fitted",
    ),
    "nothing free": (lambda: fit("organ_1_phase", _liver(), protocol({})), "nothing is free; name the free parameters"),
    "tied to itself": (
        lambda: _pet(ties={"k2": "k2"}, free="K1"),
        "tie k2 = 'k2': a parameter cannot be tied to itself",
    ),
    "tied to the unknown": (lambda: _pet(ties={"k2": "K9"}, free="K1"), "'K9' is not a parameter"),
    "tie of the unknown": (lambda: _pet(ties={"k9": "K1"}, free="K1"), "tied 'k9' is not a parameter"),
    "tied and free": (lambda: _pet(ties={"k2": "K1"}, free="K1 k2"), "k2 is free and tied at once"),
    "tied and fixed": (lambda: _pet(ties={"k2": "K1"}, free="K1", fixed={"k2": 1.0}), "k2 is fixed and tied at once"),
    "tied in a chain": (lambda: _pet(ties={"k2": "k3", "k3": "K1"}, free="K1"), "k3 is itself tied, to K1"),
    "tied across dimensions": (
        lambda: _pet(ties={"vB": "K1"}, free="K1"),
        "vB is in '1' and K1 in 'mL/cm3/min'; only like can be tied to like",
    ),
    "start outside the bounds": (
        lambda: fit("organ_1_phase", _liver(), protocol({"fraction": {"start": 2.0}})),
        "fraction: start 2 must lie between the bounds, 0 to 1 1",
    ),
    "bounds the wrong way": (
        lambda: fit("organ_1_phase", _liver(), protocol({"fraction": {"lower": 0.5, "upper": 0.1}})),
        "must lie between the bounds, 0.5 to 0.1",
    ),
    "log of what may be negative": (
        lambda: _pet(free={"delay": {"transform": "log"}}),
        "the log transform needs a positive start",
    ),
    "logit without an end": (
        lambda: fit("whole_body_linear", _liver(), protocol({"k_liver_in": {"transform": "logit"}})),
        "the logit transform needs two finite bounds",
    ),
    "proportional error at zero": (
        lambda: fit(
            "organ_1_phase", _liver(value=np.array([20.0, 0, 6, 3])), protocol(TWO, error={"kind": "proportional"})
        ),
        "liver, value 2 .* no size at a value of zero",
    ),
    "table without sd": (
        lambda: fit("organ_1_phase", _liver(), protocol(TWO, error={"kind": "table"})),
        "needs an sd above zero",
    ),
    "weights without weights": (
        lambda: fit("organ_1_phase", _liver(), protocol(TWO, error={"kind": "weights"})),
        "needs a weight for every value",
    ),
    "MBq without an injection": (
        lambda: fit("organ_1_phase", _liver(injected_activity=None), protocol(TWO)),
        "the injected activity is not stated and not all values are %IA; say injected_activity",
    ),
    "not a number": (
        lambda: fit("organ_1_phase", _liver(value=np.array([20.0, np.nan, 6, 3])), protocol(TWO)),
        "region liver: value 2 is not a number",
    ),
    "infinite": (
        lambda: fit("organ_1_phase", _liver(value=np.array([20.0, 1, 6, np.inf])), protocol(TWO)),
        "region liver: value 4 is not a number",
    ),
    "before the injection": (
        lambda: fit("organ_1_phase", curves(curve("liver", T - 10, Y)), protocol(TWO)),
        "lies before the first administration",
    ),
    "another nuclide": (
        lambda: fit(label(load_model("organ_1_phase"), "I-131"), _liver(), protocol(TWO)),
        "measured with Lu-177, but the model is labelled with I-131",
    ),
    "a concentration": (
        lambda: fit("organ_1_phase", _liver(unit="kBq/mL"), protocol(TWO)),
        r"unit 'kBq/mL' cannot be compared with observable organ .*to_unit\('MBq'\)",
    ),
    "an unknown region": (
        lambda: fit("organ_1_phase", _liver(), protocol(TWO), regions=["livr"]),
        "no region 'livr'; did you mean 'liver'",
    ),
    "a region twice": (
        lambda: fit("organ_1_phase", _liver(), protocol(TWO), regions=["liver", "liver"]),
        "region liver is named twice",
    ),
    "no organ": (
        lambda: fit("organ_1_phase", _liver(kind="field_of_view"), protocol(TWO)),
        "no regions to fit; known: liver",
    ),
    "an unknown engine": (
        lambda: fit("organ_1_phase", _liver(), protocol(TWO), method="magic"),  # type: ignore[call-overload]
        "method 'magic' is not known; allowed: least_squares",
    ),
    "a study of many": (
        lambda: fit("organ_1_phase", load_study("radioiodine_uptake"), protocol(TWO)),
        r"has \d+ subjects .* fit one: study\[name\]",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_it_is_refused_in_words(case: str) -> None:
    attempt, message = BAD[case]
    with pytest.raises(PkmodelError, match=f"(?s){message}") as error:
        attempt()
    print(f"{case}: {error.value}")


def test_the_kind_of_error_tells_whose_it_is() -> None:
    with pytest.raises(LibraryError):
        fit("organ_9_phase", _liver(), protocol(TWO))
    with pytest.raises(LibraryError):
        fit("organ_1_phase", _liver(), "no_such_protocol")
    with pytest.raises(UnitError, match="k_washout"):
        fit("organ_1_phase", _liver(), protocol("fraction", fixed={"k_washout": "3 g"}))
    with pytest.raises(FitError):
        fit("organ_1_phase", _liver(), protocol("nonsense"))
    with pytest.raises((ModelError, FitError), match=r"formula|not a parameter"):
        fit("psma617_siebinga2023", _liver(), protocol("k10"))


def test_one_region_may_be_named_alone() -> None:
    data = curves(curve("liver", T, Y), curve("spleen", T, Y))
    assert fit("organ_1_phase", data, protocol(TWO), regions="liver").likelihood.regions == ("liver",)


def test_percent_without_a_stated_injection_is_fitted_per_megabecquerel_and_that_is_said() -> None:
    c = curve("liver", T, Y / 10, unit="%IA", injected_activity=None)
    got = fit("organ_1_phase", curves(c), protocol(TWO))
    known = fit("organ_1_phase", curves(c.replace(injected_activity=1000.0)), protocol(TWO))
    assert got.values == pytest.approx(known.values, rel=1e-9)
    assert any("results are per MBq injected" in w for w in got.warnings)


def test_what_a_whole_body_model_does_not_describe_is_left_out_and_named() -> None:
    data = curves(curve("liver", T, Y), curve("thyroid", T, Y))
    got = fit("whole_body_linear", data, protocol("k_liver_in"))
    assert got.likelihood.regions == ("liver",)
    assert any("does not describe thyroid: not fitted" in w for w in got.warnings)


def test_a_fixed_value_may_carry_a_unit() -> None:
    a = fit("organ_1_phase", _liver(), protocol("fraction", fixed={"k_washout": "0.24 1/day"}))
    b = fit("organ_1_phase", _liver(), protocol("fraction", fixed={"k_washout": 0.01}))
    assert a.values == pytest.approx(b.values, rel=1e-8)
