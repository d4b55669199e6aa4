"""Log-likelihoods at the published parameters of problems of the PEtab benchmark collection.

The problems (github.com/Benchmarking-Initiative/Benchmark-Models-PEtab; Hass et al. 2019,
doi:10.1093/bioinformatics/btz020) lie beside the checkout; the values were computed from them by libroadrunner.
"""

from __future__ import annotations

import pytest

import needs_sbml  # noqa: F401
from pkmodel.petab import read_petab
from support import report, shared

pytest.importorskip("yaml")

PUBLISHED = {
    "Bruno_JExpBot2016": 46.688182,
    "Crauste_CellSystems2017": -190.964016,
    "Fiedler_BMCSystBiol2016": 58.583872,
    "Brannmark_JBC2010": -141.888937,  # begins in a steady state
    "Rahman_MBS2016": -21.153490,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_log_likelihood_at_the_nominal_parameters(name: str) -> None:
    problem = read_petab(shared(f"data/petab/{name}/{name}.yaml"))
    report(f"log-likelihood of {name}", PUBLISHED[name], problem.log_likelihood(), atol=1e-3)
