"""What the chains say of themselves, in words: mixing, how many draws they are worth, divergences, energy.

R-hat above 1.01 or fewer than 100 effective draws a chain: not to be trusted (Vehtari et al. 2021,
doi:10.1214/20-BA1221). E-BFMI below 0.3: the tails are explored slowly (Betancourt 2016, arXiv:1604.00695).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import FitError
from ..observations import Observations

RHAT, ESS_PER_CHAIN, EBFMI = 1.01, 100, 0.3


def diagnostics(tree: Any, names: list[str]) -> dict[str, Any]:
    """R-hat and effective draws (bulk, tail) by name; numbers of divergences; E-BFMI of each chain.

    Parameters
    ----------
    tree : with the groups posterior and sample_stats
    names : parameters; of one with several numbers the worst is given
    """
    import arviz as az

    posterior = tree["posterior"].to_dataset()[names]
    several = posterior.sizes["chain"] > 1
    flat: dict[str, dict[str, float]] = {}
    rhat = az.rhat(posterior) if several else None
    bulk, tail = az.ess(posterior, method="bulk"), az.ess(posterior, method="tail")
    for n in names:
        flat[n] = {
            "rhat": float(np.max(rhat[n].to_numpy())) if rhat is not None else float("nan"),
            "ess_bulk": float(np.min(bulk[n].to_numpy())),
            "ess_tail": float(np.min(tail[n].to_numpy())),
        }
    stats = tree["sample_stats"].to_dataset()
    diverging = stats["diverging"].to_numpy().astype(bool) if "diverging" in stats else np.zeros((1, 1), bool)
    energy = stats["energy"].to_numpy() if "energy" in stats else None
    ebfmi = [] if energy is None else (np.diff(energy, axis=1) ** 2).mean(axis=1) / energy.var(axis=1)
    return {"parameters": flat, "divergences": int(diverging.sum()), "ebfmi": [float(e) for e in ebfmi]}


def judge(tree: Any, names: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Warnings in words, and the numbers behind them. Draws are kept whatever is said.

    Raises
    ------
    FitError
        A chain holds a value that is not a number: parameter and chain are named.
    """
    posterior = tree["posterior"].to_dataset()
    for n in names:
        values = posterior[n].transpose("chain", "draw", ...).to_numpy()
        bad = ~np.isfinite(values).reshape(values.shape[0], -1).all(axis=1)
        if bad.any():
            raise FitError(f"{n} is not a number in chain {int(np.argmax(bad))}; the draws cannot be used")
    found = diagnostics(tree, names)
    chains, draws = posterior.sizes["chain"], posterior.sizes["draw"]
    said: list[str] = []
    if chains < 2:
        said.append("one chain: whether it has found the whole posterior cannot be judged; run four")
    mixed = {n: v["rhat"] for n, v in found["parameters"].items() if v["rhat"] > RHAT}
    if mixed:
        worst = ", ".join(f"{n} {v:.3f}" for n, v in sorted(mixed.items(), key=lambda k: -k[1])[:5])
        said.append(
            f"chains do not mix: R-hat above {RHAT} for {worst}; the draws are kept, but intervals are not to be "
            "trusted: run longer (draws=, tune=), tighten the priors or simplify the model"
        )
    few = {n: min(v["ess_bulk"], v["ess_tail"]) for n, v in found["parameters"].items()}
    few = {n: v for n, v in few.items() if not v >= ESS_PER_CHAIN * chains}
    if few and not mixed:
        worst = ", ".join(f"{n} {v:.0f}" for n, v in sorted(few.items(), key=lambda k: k[1])[:5])
        said.append(f"few effective draws, below {ESS_PER_CHAIN * chains}: {worst}; run longer for stable intervals")
    if found["divergences"]:
        said.append(
            f"{found['divergences']} of {chains * draws} draws diverged: parts of the posterior may be missing; raise "
            "target_accept, or think about what the data cannot tell apart"
        )
    if slow := [k for k, e in enumerate(found["ebfmi"]) if e < EBFMI]:
        said.append(f"energy is explored slowly (E-BFMI below {EBFMI}) in chain {', '.join(map(str, slow))}")
    return said, found


def verdict(found: dict[str, Any], chains: int) -> str:
    """One line for the result."""
    numbers = found["parameters"].values()
    rhat = max((v["rhat"] for v in numbers), default=float("nan"))
    bulk, tail = (min((v[w] for v in numbers), default=float("nan")) for w in ("ess_bulk", "ess_tail"))
    good = rhat <= RHAT and min(bulk, tail) >= ESS_PER_CHAIN * chains and not found["divergences"]
    word = "the chains agree" if good else "see the warnings"
    return (
        f"{word}: R-hat at most {rhat:.3f}, effective draws at least {bulk:.0f} (bulk) and {tail:.0f} (tails), "
        f"{found['divergences']} divergences"
    )


def judge_data(data: Observations) -> list[str]:
    """Regions whose values do not change in time tell nothing of rates."""
    said = []
    for e, name in enumerate(data.endpoints):
        mine = data.value[(data.endpoint == e) & data.counted & (data.censored == 0)]
        if mine.size > 1 and np.ptp(mine) == 0:
            said.append(f"{name}: all {mine.size} values are {mine[0]:.4g}, so nothing is learned of any rate")
    return said
