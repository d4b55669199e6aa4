"""Objective functions of NONMEM for ten subjects with two values each: FO, FOCE and FOCE-I.

Data and model: Wang Y, J Pharmacokinet Pharmacodyn 2007;34:575, doi:10.1007/s10928-007-9060-6: f = 10 exp(-ke t),
ke = 0.5 exp(eta), omega^2 = 0.04, sigma^2 = 0.1. Objectives: Table 2 there (proportional error); the additive ones and
the subjects' contributions are NONMEM's, as the tests of nlmixr2est (test-focei-wang2007-basic.R) and RxODE list them.
"""

from __future__ import annotations

import numpy as np
import pytest
from population_models import WANG, wang_crowd

from pkmodel.inference.population.linearised import Approximation, objective
from support import report

PROPORTIONAL = {"fo": 39.213, "foce": 39.207, "focei": 39.458}
ADDITIVE = {"fo": 0.026, "foce": -2.059, "focei": -2.059}
EACH = (5.20178380742227, 3.77604874005119, 3.72057773742475, 3.79581329127695, 3.84803907890983, 3.7725678919448,
        3.92866450763499, 3.76425408681763, 3.83096377569697, 3.81883716853077)  # fmt: skip
ETA = (0.0715450734486005, 0.00570452879884164, 0.02494718484644, 0.0319502378033361, -0.00478736927193241,
       0.00397892241288246, -0.0118035085000642, 0.00588012198219381, -0.00313671906679696,
       -0.00066641434061578)  # fmt: skip


@pytest.mark.parametrize("kind", ["fo", "foce", "focei"])
def test_objective_with_proportional_error(kind: Approximation) -> None:
    crowd = wang_crowd(WANG, proportional=np.sqrt(0.1))
    got = objective(crowd, crowd.layout.start, kind=kind)
    report(f"{kind}, proportional", PROPORTIONAL[kind], got.value, atol=1e-3)


@pytest.mark.parametrize("kind", ["fo", "foce", "focei"])
def test_objective_with_additive_error(kind: Approximation) -> None:
    crowd = wang_crowd(WANG, additive=np.sqrt(0.1))
    got = objective(crowd, crowd.layout.start, kind=kind)
    report(f"{kind}, additive", ADDITIVE[kind], got.value, atol=1e-3)


def test_contributions_and_modes_of_the_subjects() -> None:
    crowd = wang_crowd(WANG, proportional=np.sqrt(0.1))
    got = objective(crowd, crowd.layout.start, kind="focei")
    assert got.found.all()
    for k, (value, eta) in enumerate(zip(EACH, ETA, strict=True)):
        report(f"subject {k + 1}, objective", value, float(got.each[k]), atol=1e-6)
        report(f"subject {k + 1}, eta", eta, float(got.b[k, 0]), atol=2e-6)
