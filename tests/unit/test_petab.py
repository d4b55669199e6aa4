"""PEtab problems: tables read, conditions applied, likelihoods summed, against sums written out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import needs_sbml  # noqa: F401
import sbml_texts as x

pytest.importorskip("yaml")

from pkmodel.errors import DataError, ExpressionError, SimulationError
from pkmodel.petab import PetabProblem, read_petab

MODEL = x.sbml(
    x.compartment(2.0),
    x.listed("Species", x.species("S", 'initialConcentration="1"'), x.species("W", 'initialAmount="0"')),
    x.parameters(k=0.3, feed=0, twice=None),
    x.listed("InitialAssignments", x.initially("twice", x.apply("times", "2", "k"))),
    x.listed(
        "Reactions",
        x.reaction("J", x.apply("times", "twice", "S", "C"), ["S"], ["W"]),
        x.reaction("F", x.ci("feed"), [], ["S"]),
    ),
)
LOST = '<listOfProducts><speciesReference species="W" constant="true" stoichiometry="1"/></listOfProducts>'
assert LOST in MODEL
FILES = {
    "problem.yaml": """format_version: 1
parameter_file: parameters.tsv
problems:
- sbml_files: [model.xml]
  condition_files: [conditions.tsv]
  measurement_files: [measurements.tsv]
  observable_files: [observables.tsv]
""",
    "model.xml": MODEL,
    "parameters.tsv": """parameterId parameterScale lowerBound upperBound nominalValue estimate
k log10 1e-3 10 0.25 1
start lin 0 10 4 1
scale lin 0 10 3 1
sd lin 0 10 0.5 0
""",
    "conditions.tsv": """conditionId conditionName S k
low _ 2
high _ start 0.1
""",
    "observables.tsv": """observableId observableFormula noiseFormula observableTransformation noiseDistribution
conc S*observableParameter1_conc noiseParameter1_conc log10 normal
lost scale*W+time^2 sd*2 lin laplace
""",
    "measurements.tsv": """observableId simulationConditionId measurement time observableParameters noiseParameters
conc low 1.1 1 1 0.2
conc low 0.9 2 scale 0.1
conc high 3.5 1 1 sd
lost high 7 2
lost low 5 2
""",
}


def problem(folder: Path, **changes: str) -> PetabProblem:
    for name, text in {**FILES, **changes}.items():
        tabbed = text.replace(" ", "\t") if name.endswith(".tsv") else text
        (folder / name).write_text(tabbed)
    return read_petab(folder / "problem.yaml")


def by_hand(k: float, start: float, scale: float, sd: float) -> float:
    """S' = -2k S; W (a concentration) gains what S loses; k is 0.1 under "high", and S starts at `start`."""

    def conc(t: float, s0: float, rate: float) -> float:
        return s0 * math.exp(-2 * rate * t)

    def log10_normal(y: float, m: float, s: float) -> float:
        return -math.log(s * math.sqrt(2 * math.pi) * m * math.log(10)) - (math.log10(y / m)) ** 2 / (2 * s**2)

    def laplace(y: float, m: float, s: float) -> float:
        return -math.log(2 * s) - abs(y - m) / s

    return (
        log10_normal(conc(1, 2.0, k), 1.1, 0.2)
        + log10_normal(scale * conc(2, 2.0, k), 0.9, 0.1)
        + log10_normal(conc(1, start, 0.1), 3.5, sd)
        + laplace(scale * (start - conc(2, start, 0.1)) + 4, 7, 2 * sd)
        + laplace(scale * (2.0 - conc(2, 2.0, k)) + 4, 5, 2 * sd)
    )


def test_log_likelihood(tmp_path: Path) -> None:
    p = problem(tmp_path)
    assert p.estimated == ("k", "start", "scale")
    assert p.log_likelihood() == pytest.approx(by_hand(0.25, 4, 3, 0.5), rel=1e-7)
    changed = {"k": 0.4, "start": 2.5, "sd": 0.7}
    assert p.log_likelihood(changed) == pytest.approx(by_hand(0.4, 2.5, 3, 0.7), rel=1e-7)


def test_a_preparation_in_steady_state(tmp_path: Path) -> None:
    """Fed with 0.6 of amount an hour, S rests at 0.6/(2 k C) = 0.6; without food it falls from there."""
    conditions = "conditionId feed k\nfed 0.6 0.25\nfasting 0 0.25\n"
    measurements = (
        "observableId preequilibrationConditionId simulationConditionId measurement time observableParameters "
        "noiseParameters\nconc fed fasting 0.5 1 1 0.2\nconc fed fed 0.6 inf 1 0.2\n"
    )
    changes = {"conditions.tsv": conditions, "measurements.tsv": measurements}
    with pytest.raises(SimulationError, match="condition fed reaches no steady state"):
        problem(tmp_path, **changes).simulate()  # W gathers what S loses
    changes["model.xml"] = MODEL.replace(LOST, "")
    table = problem(tmp_path, **changes).simulate()
    np.testing.assert_allclose(table["simulation"], [0.6 * math.exp(-0.5), 0.6], rtol=1e-6)


def test_an_event_in_the_model(tmp_path: Path) -> None:
    """S is doubled at t = 0.5."""
    event = (
        '<event id="E" useValuesFromTriggerTime="true"><trigger initialValue="true" persistent="true">'
        f"{x.math(x.apply('geq', x.TIME, '0.5'))}</trigger>"
        f'<listOfEventAssignments><eventAssignment variable="S">{x.math(x.apply("times", "2", "S"))}</eventAssignment>'
        "</listOfEventAssignments></event>"
    )
    model = MODEL.replace("</model>", x.listed("Events", event) + "</model>")
    table = problem(tmp_path, **{"model.xml": model}).simulate()
    assert table["simulation"][0] == pytest.approx(4 * math.exp(-0.5), rel=1e-6)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("problem.yaml", "format_version: 1", "format_version: 2", "version 1"),
        ("problem.yaml", "[model.xml]", "[model.xml", "not YAML"),
        ("problem.yaml", "conditions.tsv", "absent.tsv", "cannot be read"),
        ("parameters.tsv", "nominalValue", "value", "no column nominalValue"),
        ("conditions.tsv", "conditionName S k", "conditionName S kk", "'kk', which the model does not have"),
        ("measurements.tsv", "conc low 1.1", "conk low 1.1", "observableId conk"),
        ("measurements.tsv", "conc low 1.1", "conc lowest 1.1", "simulationConditionId lowest"),
        ("observables.tsv", "log10 normal", "log10 cauchy", "noiseDistribution of conc is 'cauchy'"),
    ],
)
def test_bad_problems(tmp_path: Path, file: str, old: str, new: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        problem(tmp_path, **{file: FILES[file].replace(old, new)})


def test_formulas_run_no_code_and_names_must_exist(tmp_path: Path) -> None:
    bad = FILES["observables.tsv"].replace("sd*2", "__import__('os').getcwd()")
    with pytest.raises(ExpressionError, match="not allowed"):
        problem(tmp_path, **{"observables.tsv": bad})
    with pytest.raises(DataError, match="there is no such file"):
        read_petab(tmp_path / "absent.yaml")
    with pytest.raises(DataError, match="no parameter 'kk'"):
        problem(tmp_path).log_likelihood({"kk": 1.0})
    unknown = FILES["measurements.tsv"].replace("1 1 sd", "1 1 sdd")
    with pytest.raises(DataError, match="'sdd' is neither a number nor a parameter"):
        problem(tmp_path, **{"measurements.tsv": unknown}).log_likelihood()
