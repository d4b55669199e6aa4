"""What a format is made of: a host, a body that handles such molecules, its size, a target, a label, a tumour.

All of it is files of `models/`. What differs between formats is the body (FcRn and no filtration for an IgG; filtration
and uptake by tubules for what is small; the published kidney for peptides) and the vector; the binder (KD, kon) is the
same for all unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..assembly import assemble
from ..errors import LibraryError, ModelError, did_you_mean
from ..library import list_models
from ..model import Model
from ..nuclides import nuclide
from ..units import dimension, factor, quantity

ANTIBODY, PROTEIN = "antibody_body", "protein_body"
IGG_HOST = {"adult_male": "man_igg", "adult_female": "woman_igg"}
"""The same hosts, breaking IgG down where 89Zr antibodies are seen to be taken up."""

WITH_FC = ("igg", "igg_fc_silent")
"""Formats with the body of an antibody. All others, peptides too, have the kidney that filters by size and keeps the
label of what its tubules take up: the published peptide body gives that back, and fits only where the kidney's own
receptors hold the ligand."""

IGG_CL = {
    "value": 0.2,
    "unit": "L/d",
    "cv": 0.29,
    "source": "an IgG without a saturable sink, Stroh 2017, doi:10.1002/cpt.587",
    "status": "published",
}

LABEL = {
    "Zr": "label_dfo",
    "I": "label_iodine",
    "F": "label_f18_alf",
    "Tc": "label_hynic",
    "Cu": "label_nota",
    "In": "label_dota",
}
"""Label of each element where a nuclide's is not named; metals that DOTA holds otherwise."""

KON = "0.36 L/nmol/h"  # 1e5 /M/s, as trastuzumab's in Scheuher 2023, doi:10.1007/s10928-023-09884-6


def label_of(name: str) -> str:
    """Usual label chemistry of a nuclide: a file of `models/labels`."""
    element = nuclide(name).name.split("-")[0]
    return LABEL.get(element, "label_dota")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all formats of a comparison share.

    Parameters
    ----------
    target : parts that say what is bound and how much of it there is, e.g. ``("target_her2", "her2_ihc_3")``
    host, tumour : files of `models/hosts` and `models/tumours` [text]
    KD : of the binder, one for all or format -> KD, text with a unit
    kon : of the binder, text with a unit
    parts : further files of `models/` [text]
    set : last word on parameters of every format, as in a model file
    """

    target: tuple[str, ...]
    host: str = "adult_male"
    tumour: str = "tumour_simple"
    KD: str | Mapping[str, str] = "1 nmol/L"
    kon: str = KON
    parts: tuple[str, ...] = ()
    set: Mapping[str, Any] = field(default_factory=dict)

    def affinity(self, format_name: str) -> str:
        """KD of one format.

        Raises
        ------
        ModelError
            None is given for it, or it is no concentration above zero.
        """
        text = self.KD.get(format_name) if isinstance(self.KD, Mapping) else self.KD
        if text is None:
            raise ModelError(f"format {format_name}: no KD; give KD={{'{format_name}': '1 nmol/L'}} or one KD for all")
        read = quantity(text, f"KD of {format_name}")
        if read.dimension != dimension("nmol/L") or not read.value > 0:
            raise ModelError(f"KD of {format_name}: {text!r}; allowed: a concentration above zero, such as '1 nmol/L'")
        return text


TARGETS: dict[str, tuple[str, ...]] = {"her2": ("target_her2", "her2_ihc_3")}
"""Targets that need more than one file; any other name is the file ``target_<name>``."""


def target_parts(target: str | Sequence[str]) -> tuple[str, ...]:
    """Files of a target: those of a known name, or the files named.

    Raises
    ------
    LibraryError
        There is no such target.
    """
    if not isinstance(target, str):
        return tuple(target)
    known = list_models()
    if target in TARGETS:
        return TARGETS[target]
    if f"target_{target}" in known:
        return (f"target_{target}",)
    names = sorted({*TARGETS, *(k.removeprefix("target_") for k in known if k.startswith("target_"))})
    raise LibraryError(f"target {target!r} is not known{did_you_mean(target, names)}; known: {', '.join(names)}")


def known_formats() -> tuple[str, ...]:
    """Formats that have a file ``vector_<format>`` in `models/vectors`."""
    return tuple(sorted(n.removeprefix("vector_") for n in list_models() if n.startswith("vector_")))


def build(name: str, setting: Setting, label: str) -> Model:
    """Put a format together.

    Parameters
    ----------
    name : of the format, ``"fab"`` for the file ``vector_fab`` [text]
    setting : what it shares with the others
    label : file of `models/labels` [text]

    Raises
    ------
    LibraryError
        There is no such format, or a part of it does not exist.
    ModelError, UnitError
        The parts do not go together.
    """
    known = known_formats()
    if name not in known:
        raise LibraryError(f"format {name!r} is not known{did_you_mean(name, known)}; known: {', '.join(known)}")
    body = _body(name, setting.host)
    parts = [*body, f"vector_{name}", *setting.target, label, setting.tumour, *setting.parts]
    chosen = "choice of the comparison"
    last: dict[str, Any] = {
        "KD": _given(setting.affinity(name), "nmol/L", chosen),
        "kon": _given(setting.kon, "L/nmol/h", chosen),
        "koff": {"formula": "KD*kon", "unit": "1/h", "source": "KD and kon", "status": "derived"},
    }
    if name in WITH_FC:
        last["CL"] = IGG_CL
    return assemble(
        f"{name}_{label}",
        list(_once(parts)),
        title=f"{name} with {label}",
        layers=[{"file": "release", "organs": ["*", "tumour"]}],
        set={**last, **setting.set},
    )


def _body(name: str, host: str) -> tuple[str, ...]:
    """Host and body of a format."""
    if name not in WITH_FC:
        return host, PROTEIN
    return IGG_HOST.get(host, host), ANTIBODY


def _given(text: str, unit: str, source: str) -> dict[str, Any]:
    """A number with its unit as a table of a model file."""
    read = quantity(text, "comparison")
    if read.dimension != dimension(unit):
        raise ModelError(f"comparison: {text!r} is {read.dimension}; needed: {unit} ({dimension(unit)})")
    return {"value": read.value / factor(unit), "unit": unit, "source": source, "status": "assumed"}


def _once(parts: Iterable[str]) -> Iterable[str]:
    return dict.fromkeys(p for p in parts if p)
