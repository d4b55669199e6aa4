"""Protocols are text: what they say is read, and what makes no sense is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pkmodel.assembly import load_model
from pkmodel.errors import FitError, PkmodelError, UnitError
from pkmodel.inference.protocol import ErrorModel, Free, load_protocol, protocol_from_dict
from pkmodel.library import list_protocols

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"fre": {}}, "key 'fre' is not known; did you mean 'free'"),
    "unknown key of a parameter": ({"free": {"K1": {"strat": 1}}}, "free K1: key 'strat' .* 'start'"),
    "free is a list": ({"free": ["K1"]}, "free: expected a table"),
    "free is a number": ({"free": {"K1": 3}}, "free K1: expected a table"),
    "start is text": ({"free": {"K1": {"start": "high"}}}, "start = 'high' is not a number"),
    "start is infinite": ({"free": {"K1": {"start": float("inf")}}}, "start = inf"),
    "start is true": ({"free": {"K1": {"start": True}}}, "start = True"),
    "unknown transform": ({"free": {"K1": {"transform": "sqrt"}}}, "transform 'sqrt' .* log, logit, none"),
    "unknown observation": ({"observation": "middle"}, "observation 'middle' .* frame, midpoint"),
    "no starts": ({"starts": 0}, "starts = 0 must be a whole number, at least 1"),
    "half a start": ({"starts": 1.5}, "starts = 1.5"),
    "true starts": ({"starts": True}, "starts = True"),
    "negative seed": ({"seed": -1}, "seed = -1"),
    "cold as text": ({"cold": "yes"}, "cold = 'yes'"),
    "mass sd above one": ({"mass_relative_sd": 20}, "mass_relative_sd = 20"),
    "fixed without sense": ({"fixed": {"vB": None}}, "fixed vB = None"),
    "fixed and free": ({"free": {"vB": {}}, "fixed": {"vB": 0.05}}, "vB: free and fixed at once"),
    "tie to a number": ({"ties": {"k2": 1.0}}, "tie k2 = 1.0: expected the name"),
    "shared as text": ({"shared": "K1"}, "shared: expected a list"),
    "name is a number": ({"name": 3}, "name = 3 is not text"),
    "error is text": ({"error": "constant"}, "error: expected a table"),
    "unknown error": ({"error": {"kind": "poisson"}}, "error kind 'poisson' .* counts"),
    "error key": ({"error": {"kind": "combined", "addative": 1}}, "addative.*additive"),
    "negative error": (
        {"error": {"kind": "combined", "additive": -1}},
        "additive = -1 must be a number that is not neg",
    ),
    "error as text": ({"error": {"kind": "combined", "additive": "1"}}, "additive = '1'"),
    "combined of nothing": ({"error": {"kind": "combined"}}, "needs additive or proportional above zero"),
    "part of another kind": ({"error": {"kind": "constant", "additive": 1}}, "additive belongs to kind 'combined'"),
    "pooled as text": ({"error": {"pooled": "yes"}}, "pooled = 'yes'"),
    "absolute without a size": ({"error": {"kind": "counts", "absolute": True}}, "'counts' gives variances only up to"),
    "absolute and pooled": ({"error": {"kind": "table", "absolute": True, "pooled": True}}, "no scale to pool"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_makes_no_sense_is_refused(case: str) -> None:
    raw, message = BAD[case]
    with pytest.raises(FitError, match=f"(?s)protocol: .*{message}"):
        protocol_from_dict(raw)


def test_a_fixed_value_may_carry_a_unit() -> None:
    assert protocol_from_dict({"fixed": {"vB": "5 %"}}).fixed == {"vB": "5 %"}
    with pytest.raises(UnitError, match="fixed delay"):
        protocol_from_dict({"fixed": {"delay": "3 fortnightz"}})


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\nshared = ["k2"]\nstarts = 3\n'
        'error = { kind = "combined", additive = 0.1, proportional = 0.05 }\n'
        '[free]\nK1 = { start = 0.2, upper = inf }\nk2 = { transform = "logit", lower = 0, upper = 1 }\n'
        '[ties]\nk3 = "k2"\n',
        encoding="utf-8",
    )
    p = load_protocol(path)
    assert p.free == {"K1": Free(start=0.2, upper=float("inf")), "k2": Free(transform="logit", lower=0, upper=1)}
    assert p.error == ErrorModel(kind="combined", additive=0.1, proportional=0.05)
    assert (p.shared, p.ties, p.starts) == (("k2",), {"k3": "k2"}, 3)
    assert p.replace(starts=9).starts == 9 and p.starts == 3


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("free = [", encoding="utf-8")
    with pytest.raises(FitError, match=r"broken\.toml: not valid TOML"):
        load_protocol(path)


def test_an_unknown_protocol_says_what_there_is() -> None:
    with pytest.raises(PkmodelError, match="serial_spect"):
        load_protocol("serial_spekt")


@pytest.mark.parametrize("name", [p.name if hasattr(p, "name") else str(p) for p in list_protocols()])
def test_every_shipped_protocol_suits_its_model(name: str) -> None:
    p = load_protocol(name)
    model = load_model(p.model)
    assert p.name == name and p.title and p.source
    assert set(p.free) | set(p.fixed) <= set(model.primary)
