"""What a covariate search has computed, one line of JSON per fit, so that it can go on after an interruption."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import FitError
from ..effects import Relation

if TYPE_CHECKING:
    from ..result import PopulationFit


@dataclass(slots=True)
class SearchLog:
    """Fits by key, in memory and in a file where one is given.

    Parameters
    ----------
    path : of the file, or None
    known : what is in it
    """

    path: Path | None = None
    known: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, key: str, entry: dict[str, Any]) -> None:
        """Keep a fit and write it at once."""
        self.known[key] = entry
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key} | entry) + "\n")


def open_log(path: str | Path | None) -> SearchLog:
    """Read a log, if there is one; a last line that was cut short is passed over.

    Parameters
    ----------
    path : of the file; made with the first fit
    """
    if path is None:
        return SearchLog()
    file = Path(path)
    if file.is_dir() or not file.parent.exists():
        raise FitError(f"log {file}: give the name of a file in a folder that exists")
    known: dict[str, dict[str, Any]] = {}
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    for number, line in enumerate(lines):
        try:
            entry = json.loads(line)
            known[entry.pop("key")] = entry
        except (ValueError, KeyError, AttributeError):
            if number == len(lines) - 1:
                file.write_text("".join(f"{kept}\n" for kept in lines[:-1]), encoding="utf-8")
                continue
            raise FitError(
                f"log {file}, line {number + 1}: this is no log of a covariate search; name another"
            ) from None
    return SearchLog(file, known)


def digest_of(fit: PopulationFit) -> str:
    """SHA-256 of what a fit depends on: model, data, doses, inputs, covariates, effects, starts, noise, method."""
    data, layout = fit.crowd.data, fit.crowd.layout
    made = hashlib.sha256()
    for array in (data.value, data.time, data.shape, data.censored, data.counted, data.endpoint, fit.crowd.owner):
        made.update(np.ascontiguousarray(array).tobytes())
    for person in fit.crowd.people:
        for block in person.likelihood.blocks:
            for name, known in sorted(block.problem.inputs.items()):
                made.update(name.encode() + known.t.tobytes() + known.value.tobytes())
    words = [
        fit.model.digest, fit.method, repr(layout.slots), repr(layout.noise), repr(layout.between.entries),
        repr(layout.between.start.tolist()), repr(layout.occasion.entries), repr(layout.occasion.start.tolist()),
        repr([s.relation for s in layout.shifts]), repr([(p.name, p.covariates) for p in fit.crowd.people]),
        repr([[b.values.tolist() for b in p.likelihood.blocks] for p in fit.crowd.people]),
        repr([[b.problem.regimen for b in p.likelihood.blocks] for p in fit.crowd.people]),
    ]  # fmt: skip
    made.update("\n".join(words).encode())
    return made.hexdigest()


def key_of(base: str, relations: Sequence[Relation]) -> str:
    """Key of the base with some relations added, whatever their order."""
    return hashlib.sha256("\n".join([base, *sorted(map(repr, relations))]).encode()).hexdigest()[:32]
