"""From a bound likelihood to a `BayesFit`: what ``fit(..., method="bayes")`` does after binding model and data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...data import Curves
from ...errors import FitError
from ..likelihood import Likelihood
from ..protocol import Protocol
from .kernels import People
from .posterior import BayesFit
from .priors import check_names, noise_priors_of, priors_of
from .sampling import Sampler, Settings, sample


def fit_bayes(
    likelihood: Likelihood,
    curves: Curves,
    protocol: Protocol,
    *,
    priors: Mapping[str, Any] | None = None,
    seed: int | None = None,
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    sampler: Sampler = "nutpie",
    target_accept: float = 0.9,
    cores: int | None = None,
    file: str | Path | None = None,
    route: str = "auto",
    notes: tuple[str, ...] = (),
) -> BayesFit:
    """Draw from the posterior.

    Parameters
    ----------
    likelihood : of one subject
    curves, protocol : what it was made from
    priors : by parameter, label or size of the noise, before those of the protocol; see `priors`
    seed : of the draws; default the protocol's [1]
    draws, tune, chains : kept and warm-up draws of each chain, and how many chains [1]
    sampler : "nutpie" or "pymc" [text]
    target_accept : mean acceptance that step sizes are tuned to [1]
    cores : chains that run at once; default one a processor [1]
    file : NetCDF file, written whenever a chain is done; the same call goes on where it stopped [path]
    route : "auto", "closed form" or "operation" [text]
    notes : said beside the result's own warnings

    Raises
    ------
    FitError
        A parameter has no prior, no chain can start, or a chain holds values that are not numbers.
    """
    if route not in ("auto", "closed form", "operation"):
        raise FitError(f"route {route!r} is not known; allowed: auto, closed form, operation")
    from .graph import build
    from .groups import fill
    from .judged import judge, judge_data

    given = {**protocol.priors, **(priors or {})}
    check_names(given, likelihood.slots, likelihood.noise)
    ours, said = priors_of(likelihood.model, likelihood.slots, given)
    noise, also = noise_priors_of(likelihood.noise, given)
    number = protocol.seed if seed is None else seed
    settings = Settings(draws, tune, chains, number, sampler, target_accept, cores)
    graph = build(likelihood, ours, noise, route)  # type: ignore[arg-type]
    data = likelihood.data
    text = hashlib.sha256(f"{People([likelihood]).key} {ours} {noise} {likelihood.noise}".encode())
    for a in (data.value, data.shape, data.censored, data.counted):
        text.update(a.tobytes())
    drawn = sample(graph.model, settings, key=text.hexdigest(), file=file)
    names = [*ours, *noise]
    drawn.tree["posterior"] = drawn.tree["posterior"].to_dataset()[names]
    warned, quality = judge(drawn.tree, names)
    tree = fill(drawn.tree, likelihood, ours, noise, number)
    return BayesFit(
        model=likelihood.model,
        curves=curves,
        protocol=protocol,
        likelihood=likelihood,
        tree=tree,
        priors=ours,
        noise_priors=noise,
        quality=quality,
        warnings=(*notes, *said, *also, *judge_data(data), *drawn.notes, *warned),
        how=f"{sampler}, {graph.words}",
    )
