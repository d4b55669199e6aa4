"""Models from SBML: what the words of the format mean, against solutions in closed form."""

from __future__ import annotations

import math as m
from pathlib import Path

import numpy as np
import pytest

import needs_sbml  # noqa: F401
import sbml_texts as x
from pkmodel.checks import check
from pkmodel.errors import ModelError
from pkmodel.sbml import import_sbml, read_sbml

TIMES = np.array([0.0, 0.5, 2.0])
DECAY = x.listed("Reactions", x.reaction("J", x.apply("times", "k", "S", "C"), ["S"]))
CONCENTRATION = x.listed("Species", x.species("S", 'initialConcentration="3"'))


def test_a_species_is_an_amount_and_its_id_a_concentration() -> None:
    text = x.sbml(x.compartment(2.0), CONCENTRATION, x.parameters(k=0.5), DECAY)
    model = read_sbml(text)
    got = x.follow(model, TIMES)
    np.testing.assert_allclose(got["S"], 3.0 * np.exp(-0.5 * TIMES), rtol=1e-7)
    assert model.compartments["S"].initial.free_symbols  # 3 * C: it follows the volume
    assert "no unit declared" in model.references[0]
    assert "counts as one hour" in model.references[0]


def test_amounts_only_means_the_amount_in_every_formula() -> None:
    law = x.apply("times", "k", "S")
    text = x.sbml(
        x.compartment(2.0),
        x.listed("Species", x.species("S", 'initialConcentration="3"', amounts=True)),
        x.parameters(k=0.5),
        x.listed("Reactions", x.reaction("J", law, ["S"])),
    )
    np.testing.assert_allclose(x.follow(read_sbml(text), TIMES)["S"], 6.0 * np.exp(-0.5 * TIMES), rtol=1e-7)


ASSIGNED = x.sbml(
    x.compartment(),
    x.listed("Species", x.species("S", "", amounts=True)),
    x.parameters(dose=10, k=0.5, kk=None),
    x.listed(
        "InitialAssignments",
        x.initially("S", x.apply("times", "2", "dose")),
        x.initially("kk", x.apply("divide", "k", "5")),
    ),
    x.listed("Reactions", x.reaction("J", x.apply("times", "kk", "S"), ["S"])),
)


def test_initial_assignments_follow_changed_parameters() -> None:
    """With dose = 30 and k = 1, S begins at 2*dose = 60 and kk is k/5 = 0.2."""
    changed = read_sbml(ASSIGNED).replace(dose=30.0, k=1.0)
    np.testing.assert_allclose(x.follow(changed, TIMES)["S"], 60.0 * np.exp(-0.2 * TIMES), rtol=1e-7)


def test_libroadrunner_keeps_the_defaults() -> None:
    """Seen with libroadrunner 2.11.0: without a word S begins at 20, with kk = 0.1; `reset` mends S only."""
    roadrunner = pytest.importorskip("roadrunner")
    peer = roadrunner.RoadRunner(ASSIGNED)
    peer["dose"], peer["k"] = 30.0, 1.0
    assert peer.simulate(0, 1, 2, ["S", "kk"])[0].tolist() == [20.0, 0.1]
    peer.reset()
    assert peer.simulate(0, 1, 2, ["S", "kk"])[0].tolist() == [60.0, 0.1]


def test_a_concentration_with_a_rate_rule_in_a_volume_that_grows() -> None:
    """c' = 1 and V' = V: c = 1 + t, n = c V."""
    text = x.sbml(
        x.compartment(2.0, constant=False),
        x.listed("Species", x.species("S", 'initialConcentration="1"', boundary=True)),
        x.listed("Rules", x.rule("rate", "S", x.ci("1")), x.rule("rate", "C", x.ci("C"))),
    )
    read = import_sbml(text)
    got = x.follow(read.model, TIMES)
    np.testing.assert_allclose(got["S"], 1 + TIMES, rtol=1e-7)
    np.testing.assert_allclose(got["C"], 2 * np.exp(TIMES), rtol=1e-7)


def test_stoichiometry_conversion_local_parameters_functions_and_rules() -> None:
    """2 A -> 3 B at the rate f(k) = 2k, everything times the conversion factor 10: A = A0 - 40 k t, B = 60 k t."""
    local = '<listOfLocalParameters><localParameter id="k" value="0.25"/></listOfLocalParameters>'
    double = x.math(f"<lambda><bvar><ci>z</ci></bvar>{x.apply('times', '2', 'z')}</lambda>")
    text = x.sbml(
        x.listed("FunctionDefinitions", f'<functionDefinition id="f">{double}</functionDefinition>'),
        x.compartment(),
        x.listed("Species", x.species("A", 'initialAmount="50"'), x.species("B", 'initialAmount="0"')),
        x.parameters(k=99, ten=10, total="rule"),
        x.listed("Rules", x.rule("assignment", "total", x.apply("plus", "A", "B"))),
        x.listed("Reactions", x.reaction("J", "<apply><ci>f</ci><ci>k</ci></apply>", ["2*A"], ["3*B"], more=local)),
        attributes='conversionFactor="ten"',
    )
    model = read_sbml(text)
    got = x.follow(model, TIMES)
    np.testing.assert_allclose(got["A"], 50 - 40 * 0.25 * TIMES, rtol=1e-9)
    np.testing.assert_allclose(got["total"], 50 + 20 * 0.25 * TIMES, rtol=1e-9)
    assert {f.name for f in model.flows} == {"J"}


def test_rate_of_a_reaction_may_be_named_in_a_formula() -> None:
    rules = x.listed("Rules", x.rule("assignment", "v", x.ci("J")))
    text = x.sbml(x.compartment(), CONCENTRATION, x.parameters(k=0.5, v="rule"), rules, DECAY)
    np.testing.assert_allclose(x.follow(read_sbml(text), TIMES)["v"], 1.5 * np.exp(-0.5 * TIMES), rtol=1e-7)


def _with_units(time: str, rate: str) -> str:
    units = (
        '<unitDefinition id="min"><listOfUnits><unit kind="second" exponent="1" scale="0" multiplier="60"/>'
        '</listOfUnits></unitDefinition><unitDefinition id="per_min"><listOfUnits><unit kind="second" exponent="-1" '
        'scale="0" multiplier="60"/></listOfUnits></unitDefinition><unitDefinition id="umol"><listOfUnits>'
        '<unit kind="mole" exponent="1" scale="-6" multiplier="1"/></listOfUnits></unitDefinition>'
    )
    return x.sbml(
        x.listed("UnitDefinitions", units),
        '<listOfCompartments><compartment id="C" size="2" units="litre" spatialDimensions="3" constant="true"/>'
        "</listOfCompartments>",
        x.listed("Species", x.species("S", 'initialConcentration="3"', more='substanceUnits="umol"')),
        f'<listOfParameters><parameter id="k" value="0.5" units="{rate}" constant="true"/></listOfParameters>',
        DECAY,
        attributes=f'timeUnits="{time}" substanceUnits="umol" extentUnits="umol"',
    )


def test_declared_units_are_converted() -> None:
    """3 umol/L in 2 L with 0.5 per minute: 6000 nmol and 30 per hour."""
    model = read_sbml(_with_units("min", "per_min"))
    assert model.references == ("SBML Level 3 Version 2: units as declared in the file",)
    assert model.parameters["k"].unit == "1/min"
    assert model.parameters["k"].canonical == pytest.approx(30.0, rel=1e-14)
    hours = np.array([0.0, 0.1])
    np.testing.assert_allclose(x.follow(model, hours)["S"], 3000 * np.exp(-30 * hours), rtol=1e-7)  # nmol/L
    assert check(model).findings[0].ok


def test_units_that_do_not_fit_leave_the_numbers_alone_but_for_time() -> None:
    model = read_sbml(_with_units("min", "dimensionless"))
    assert "without units" in model.references[0]
    assert "min, as declared" in model.references[0]
    assert model.parameters["per_time"].canonical == pytest.approx(60.0, rel=1e-14)
    hours = np.array([0.0, 0.1])
    np.testing.assert_allclose(x.follow(model, hours)["S"], 3 * np.exp(-30 * hours), rtol=1e-7)
    assert check(model).findings[0].ok, check(model)  # a model without units is not one with wrong units


def test_units_none_keeps_the_time_of_the_file() -> None:
    got = x.follow(read_sbml(_with_units("min", "per_min"), units="none"), TIMES)
    np.testing.assert_allclose(got["S"], 3 * np.exp(-0.5 * TIMES), rtol=1e-7)


def test_names_that_a_model_cannot_have_are_changed_and_remembered() -> None:
    law = x.apply("times", "lambda", "t")
    text = x.sbml(
        x.compartment(),
        x.listed("Species", x.species("t", 'initialAmount="1"'), x.species("_x", 'initialAmount="0"')),
        "<listOfParameters><parameter id='lambda' value='0.5' constant='true'/></listOfParameters>",
        x.listed("Reactions", x.reaction("J", law, ["t"], ["_x"])),
    )
    read = import_sbml(text)
    assert set(read.model.compartments) == {"t_", "x_"}
    assert read.model.compartments["t_"].meaning == "t in the file"
    assert read.starts["lambda"] == "lambda_"
    np.testing.assert_allclose(x.follow(read.model, TIMES)["x_"], 1 - np.exp(-0.5 * TIMES), rtol=1e-6, atol=1e-12)


def test_names_a_person_gave() -> None:
    text = _with_units("min", "per_min").replace('id="k"', 'id="k" name="washout rate"')
    assert "washout_rate" in read_sbml(text, names="name").parameters


def algebraic(formula: str) -> str:
    return f"<algebraicRule>{x.math(formula)}</algebraicRule>"


def test_algebraic_rules_that_give_one_variable_after_the_other() -> None:
    """0 = w - 2v and 0 = k v + S - 3: the second gives v, then the first gives w."""
    first = algebraic(x.apply("minus", "w", x.apply("times", "2", "v")))
    second = algebraic(x.apply("plus", x.apply("times", "k", "v"), "S", "-3"))
    values = x.parameters(k=0.5, v="rule", w="rule")
    text = x.sbml(x.compartment(2.0), CONCENTRATION, values, x.listed("Rules", first, second), DECAY)
    expected = 2 * (3 - 3 * np.exp(-0.5 * TIMES)) / 0.5
    np.testing.assert_allclose(x.follow(read_sbml(text), TIMES)["w"], expected, rtol=1e-7, atol=1e-9)


BAD = {
    "algebraic rule": (x.listed("Rules", algebraic(x.ci("k"))), "algebraic rule that does not determine one variable"),
    "nonlinear": (x.listed("Rules", algebraic(x.apply("minus", x.apply("power", "v", "2"), "k"))), "not linear in v"),
    "delay": (
        x.listed(
            "Rules",
            x.rule(
                "assignment", "v", '<apply><csymbol encoding="text" definitionURL="http://www.sbml.org/sbml/symbols/delay">'
                "delay</csymbol><ci>k</ci><cn>1</cn></apply>",
            ),
        ),
        "csymbol delay",
    ),
    "factorial of what moves": (x.listed("Rules", x.rule("assignment", "v", x.apply("factorial", "S"))), "factorial"),
    "unknown symbol": (x.listed("Rules", x.rule("assignment", "v", x.ci("not_there"))), "'not_there' is used but not"),
    "unknown function": (
        x.listed("Rules", x.rule("assignment", "v", "<apply><ci>g</ci><ci>k</ci></apply>")),
        "'g' is called but not defined",
    ),
    "a rule for nothing": (x.listed("Rules", x.rule("assignment", "w", x.ci("k"))), "'w' is set but not defined"),
    "no otherwise": (
        x.listed(
            "Rules",
            x.rule("assignment", "v", f"<piecewise><piece><cn>1</cn>{x.apply('lt', 'k', '1')}</piece></piecewise>"),
        ),
        "piecewise without otherwise",
    ),
    "a tower": (
        x.listed("Rules", x.rule("assignment", "v", x.apply("power", "9", x.apply("power", "9", "9")))),
        r"pow\(9, 387420489\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_not_supported_is_named_with_its_line(case: str) -> None:
    rules, words = BAD[case]
    text = x.sbml(x.compartment(), CONCENTRATION, x.parameters(k=0.5, v="rule"), rules, DECAY)
    with pytest.raises(ModelError, match=words) as refused:
        read_sbml(text)
    assert "line 6" in str(refused.value)


def test_a_formula_without_end() -> None:
    deep = "<apply><sin/>" * 3000 + "<ci>k</ci>" + "</apply>" * 3000
    with pytest.raises(ModelError, match="nested too deeply"):
        read_sbml(x.sbml(x.parameters(k=1, v="rule"), x.listed("Rules", x.rule("assignment", "v", deep))))


def test_a_circle_of_rules_is_an_error() -> None:
    rules = x.listed("Rules", x.rule("assignment", "v", x.ci("w")), x.rule("assignment", "w", x.ci("v")))
    with pytest.raises(ModelError, match="circular definition v -> w -> v"):
        read_sbml(x.sbml(x.parameters(v="rule", w="rule"), rules))


def test_a_fast_reaction_and_a_package_are_refused() -> None:
    fast = DECAY.replace('reversible="false"', 'reversible="false" fast="true"')
    with pytest.raises(ModelError, match="line 6: 'J': a fast reaction"):
        read_sbml(x.sbml(x.compartment(), CONCENTRATION, x.parameters(k=0.5), fast, version=1))
    package = 'xmlns:comp="http://www.sbml.org/sbml/level3/version1/comp/version1" comp:required="true" level="3"'
    with pytest.raises(ModelError, match="package 'comp'"):
        read_sbml(x.sbml(x.compartment(), version=1).replace('level="3"', package, 1))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<sbml><model", "line 1: not valid SBML"),
        (x.sbml(x.compartment()).replace("</model>", ""), "line 4: not valid SBML"),
        (x.sbml('<listOfSpecies><species id="S"/></listOfSpecies>'), "line 3: not valid SBML"),
    ],
)
def test_broken_files(text: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        read_sbml(text)


def test_no_such_file_and_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no such file"):
        read_sbml(tmp_path / "absent.xml")
    (tmp_path / "text.xml").write_text("Dear all")
    with pytest.raises(ModelError, match="not valid SBML"):
        read_sbml(tmp_path / "text.xml")
    with pytest.raises(ModelError, match="units='SI' is not known"):
        read_sbml(x.sbml(), units="SI")


def test_a_value_the_file_does_not_give_is_asked_for() -> None:
    model = read_sbml(x.sbml(x.compartment(), CONCENTRATION, x.parameters(k=None), DECAY))
    with pytest.raises(ModelError, match="no value for k"):
        model.canonical_values()
    assert m.isfinite(model.replace(k=1.0).canonical_values()["k"])
