"""Limits of organs: how they are written, and a table of published ones.

`published_limits` is for reading and choosing. Nothing in it is ever applied by itself: a limit, and the alpha/beta
and repair half-life of a BED limit, are always the user's to give.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..errors import DoseError
from .values import canonical

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["dose", "BED", "EQD2"]

_LIMIT = re.compile(
    r"\s*(?P<value>[-+.\deE]+\s*[A-Za-z]+)\s*(?P<kind>BED|EQD2|dose)?\s*"
    r"(?:\(\s*(?:a/b|alpha/beta)\s*=?\s*(?P<ab>[.\deE]+\s*\w+)\s*,\s*repair\s*=?\s*(?P<repair>[.\deE]+\s*\w+)\s*\))?\s*"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What an organ may get in all cycles together.

    Parameters
    ----------
    organ : name in the dose result [text]
    value : of the limit, number [Gy]
    kind : ``"dose"`` (absorbed), ``"BED"`` or ``"EQD2"`` [text]
    alpha_beta : of the tissue; needed for BED and EQD2, there is no default [Gy]
    repair_half_life : of the tissue; needed for BED and EQD2, there is no default [h]
    already : received earlier, in the kind of the limit and fully repaired since [Gy]
    source : where the limit comes from [text]

    Raises
    ------
    DoseError
        A number is impossible, or a BED or EQD2 limit lacks a tissue parameter.
    """

    organ: str
    value: float
    kind: Kind = "dose"
    alpha_beta: float | None = None
    repair_half_life: float | None = None
    already: float = 0.0
    source: str = ""

    def __post_init__(self) -> None:
        who = f"limit of {self.organ}"
        canonical(self.value, "Gy", who)
        if self.kind not in ("dose", "BED", "EQD2"):
            raise DoseError(f"{who}: kind {self.kind!r}; allowed: dose, BED, EQD2")
        if self.kind != "dose":
            if self.alpha_beta is None or self.repair_half_life is None:
                raise DoseError(
                    f"{who}: a limit in {self.kind} needs the tissue's alpha/beta and repair half-life; there is no "
                    f"default, write for example '{self.value:g} Gy {self.kind} (a/b 2.5 Gy, repair 2.8 h)'"
                )
            canonical(self.alpha_beta, "Gy", f"{who}: alpha/beta")
            canonical(self.repair_half_life, "h", f"{who}: repair half-life")
        if not (np.isfinite(self.already) and self.already >= 0):
            raise DoseError(f"{who}: already received {self.already!r} Gy; allowed: finite and not negative")
        if self.already >= self.value:
            raise DoseError(
                f"{who}: {self.already:g} Gy {self.kind} of {self.value:g} Gy were already received; nothing is left"
            )

    @classmethod
    def parse(cls, organ: str, text: str, *, already: float | str = 0.0, source: str = "") -> Limit:
        """Read ``"23 Gy"`` or ``"40 Gy BED (a/b 2.5 Gy, repair 2.8 h)"``.

        Parameters
        ----------
        organ : name in the dose result [text]
        text : the limit [text]
        already : received earlier: text in the kind of the limit, such as ``"12 Gy BED"``, or a number [Gy]
        source : where the limit comes from [text]

        Raises
        ------
        DoseError
            The text is not a limit, or what was received is given in another kind than the limit.
        """
        match = _LIMIT.fullmatch(text)
        if match is None:
            raise DoseError(
                f"limit of {organ}: {text!r} cannot be read; write for example '23 Gy', or "
                "'40 Gy BED (a/b 2.5 Gy, repair 2.8 h)', or '28 Gy EQD2 (a/b 2.5 Gy, repair 2.8 h)'"
            )
        who = f"limit of {organ}"
        kind: Kind = match["kind"] or "dose"  # type: ignore[assignment]
        ratio, repair = match["ab"], match["repair"]
        return cls(
            organ=organ,
            value=canonical(match["value"], "Gy", who),
            kind=kind,
            alpha_beta=canonical(ratio, "Gy", f"{who}: alpha/beta") if ratio else None,
            repair_half_life=canonical(repair, "h", f"{who}: repair half-life") if repair else None,
            already=_received(organ, already, kind),
            source=source,
        )

    def __str__(self) -> str:
        kind = "" if self.kind == "dose" else f" {self.kind}"
        tissue = (
            f" (a/b {self.alpha_beta:g} Gy, repair {self.repair_half_life:g} h)" if self.alpha_beta and kind else ""
        )
        before = f", {self.already:g} Gy{kind} received before" if self.already else ""
        return f"{self.organ}: {self.value:g} Gy{kind}{tissue}{before}"


def _received(organ: str, given: float | str, kind: Kind) -> float:
    if not isinstance(given, str):
        if given and kind != "dose":
            raise DoseError(
                f"limit of {organ}: it is in {kind}, and {given!r} was received in an unnamed kind; "
                f"write '{given:g} Gy {kind}' after computing it with `bed`"
            )
        return float(given)
    match = _LIMIT.fullmatch(given)
    if match is None or (match["kind"] or "dose") != kind:
        wanted = "Gy" if kind == "dose" else f"Gy {kind}"
        raise DoseError(f"already received by {organ}: {given!r}; the limit is in {wanted}, so write '12 {wanted}'")
    return canonical(match["value"], "Gy", f"already received by {organ}")


def published_limits(tissue: str | None = None) -> pd.DataFrame:
    """Table of published tissue parameters and tolerance doses, with source and status of every row.

    Parameters
    ----------
    tissue : only rows of this tissue, for example ``"kidney"``; None: all [text]

    Returns
    -------
    DataFrame: tissue, quantity, value, lower, upper, unit, kind, meaning, status, source. Status ``published``: read in
    the source itself; ``secondary``: read in a table that quotes it; ``unverified``: in common use, source not read

    Raises
    ------
    DoseError
        The table has no such tissue.
    """
    import pandas as pd

    with files("pkmodel").joinpath("tables/tissue_response.csv").open(encoding="utf-8") as file:
        table = pd.read_csv(file, keep_default_na=True)
    if tissue is None:
        return table
    if tissue not in set(table["tissue"]):
        raise DoseError(f"tissue {tissue!r}; the table has: {', '.join(sorted(set(table['tissue'])))}")
    return table[table["tissue"] == tissue].reset_index(drop=True)
