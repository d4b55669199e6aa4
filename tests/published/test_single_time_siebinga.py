"""One scan in place of five: virtual patients of the PSMA-617 population (Siebinga 2023, doi:10.1002/psp4.12914).

What is asked: against the TIA that all scans give, the population model is nearer than Haenscheid's and Madsen's
methods at 24, 48, 72, 96 and 168 h, with a bias below 3 % and at most 6 % of cases off by more than 10 % at the best
time. The last line has a sibling in the literature: 6 % of 500 simulations, against 20 % for Haenscheid's and 17 % for
Madsen's method (Devasia et al., as quoted in doi:10.1186/s40658-023-00530-1).

Noise decides what can be reached, so it is stated. With 5 % in each scan (ASSUMED: a well calibrated SPECT/CT of
organs) the lines hold. The published residual error, 25 to 85 %, holds the misfit of the population model too; with
that much noise in the scan itself no method keeps within 10 %: the error of a scan alone is larger.
"""

from __future__ import annotations

from functools import cache

import pandas as pd
import pytest
from psma_cohort import PUBLISHED, REGIONS, TIMES, entry, model, patients, population

import pkmodel as pk
from pkmodel.single_time import ScanComparison
from support import report

OURS, RIVALS = "population model", ("Haenscheid", "Madsen")
QUANTIFICATION = 0.05  # relative standard deviation of one scan, ASSUMED


@cache
def compared(n: int, published: bool = False) -> ScanComparison:
    noise = dict(PUBLISHED) if published else QUANTIFICATION
    people, truth = patients(n, noise)
    return pk.leave_scans_out(population(noise), people, model=model(), truth=truth, tolerance=1.0)


def summary(comparison: ScanComparison, reference: str) -> pd.DataFrame:
    table = comparison.summary(reference)
    print(f"against {reference}\n" + table.round(1).to_string())
    assert not table.empty
    return table


def check(comparison: ScanComparison, reference: str) -> None:
    table = summary(comparison, reference)
    for time in (f"{t:g} h" for t in TIMES):
        for region in (*REGIONS, "all regions"):
            ours = entry(table, (time, region, OURS), "rms [%]")
            for rival in RIVALS:
                theirs = entry(table, (time, region, rival), "rms [%]")
                print(f"{time} {region}: root mean square error {ours:.1f} %, {rival} {theirs:.1f} %")
                assert ours < theirs, (time, region, rival)
    best = comparison.best(reference)
    at_best = (best, "all regions", OURS)
    print(f"best single scan: {best}")
    report("bias at the best time [%]", 0.0, entry(table, at_best, "bias [%]"), atol=3.0)
    report(
        "cases off by more than 10 % at the best time [%]", 0.0, entry(table, at_best, "off by over 10 % [%]"), atol=6.0
    )


def test_one_scan_against_all_scans_and_the_truth() -> None:
    """A cohort of 30, for every run of the tests; 500 below."""
    comparison = compared(30)
    check(comparison, "all scans")
    assert comparison.best() == "48 h"  # the published optimum of PSMA ligands too, PMC8882881
    table = comparison.summary("truth")
    for time in (f"{t:g} h" for t in TIMES):
        for rival in RIVALS:
            assert entry(table, (time, "all regions", OURS), "rms [%]") < entry(
                table, (time, "all regions", rival), "rms [%]"
            )


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["all scans", "truth"])
def test_five_hundred_patients(reference: str) -> None:
    comparison = compared(500)
    assert not comparison.values["tia"].isna().any()
    check(comparison, reference)


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["all scans", "truth"])
def test_nearer_than_daily_practice_with_the_published_noise(reference: str) -> None:
    """All regions together; of the tumour alone Haenscheid's root mean square is the smaller at 24 and 168 h."""
    table = summary(compared(500, published=True), reference)
    for time in (f"{t:g} h" for t in TIMES):
        for rival in RIVALS:
            assert entry(table, (time, "all regions", OURS), "rms [%]") < entry(
                table, (time, "all regions", rival), "rms [%]"
            )
        report(f"bias at {time} [%]", 0.0, entry(table, (time, "kidneys", OURS), "bias [%]"), atol=3.0)


@pytest.mark.slow
@pytest.mark.xfail(strict=True, reason="48 % of cases at the best time against all scans, 60 % against the truth")
@pytest.mark.parametrize("reference", ["all scans", "truth"])
def test_cases_off_by_ten_percent_with_the_published_noise(reference: str) -> None:
    """Cannot be met: a scan whose own error is 25 to 85 % leaves more than 10 % open in most patients."""
    table = summary(compared(500, published=True), reference)
    least = (
        table.xs("all regions", level="region")
        .xs(OURS, level="method")["off by over 10 % [%]"]
        .to_numpy(dtype=float)
        .min()
    )
    report("cases off by more than 10 % at the best time [%]", 0.0, float(least), atol=6.0)
