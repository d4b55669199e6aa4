"""Maximum likelihood by completing the data: SAEM, and EM with importance samples.

The unseen parameters of the subjects are drawn given their data, and the population's numbers follow from what was
drawn: means and covariances in closed form, parameters without a random effect and noise by Newton steps with the
expected information. SAEM draws by Metropolis steps and averages over iterations (Kuhn & Lavielle 2005,
doi:10.1016/j.csda.2004.07.002); "importance" draws many from a t about each mode and weighs them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from ...errors import FitError
from ...progress import progress
from .completed import Draws, Statistics, update
from .crowd import Crowd
from .importance import batches, log_data, log_joint, proposal_density, propose
from .linearised import Objective, objective
from .minimise import Minimum

Array = NDArray[np.float64]
STREAM = 8  # purpose of a stream of random numbers
EXPLORE, SMOOTH = 300, 200  # iterations of SAEM with full and with falling weight
ENOUGH = 400  # subjects times chains that a SAEM iteration should have
EM_EXPLORE, EM_SMOOTH = 40, 40  # iterations of EM with importance samples
AGAIN = 10  # iterations between two searches of the modes
INDEPENDENT = 2  # proposals about the modes in each iteration
SAMPLES = 300  # per subject and iteration
ACCEPTED = 0.3  # share of random-walk steps that the scale is tuned to


def estimate_complete(
    crowd: Crowd,
    begin: Array,
    *,
    method: str = "saem",
    seed: int = 0,
    iterations: int | None = None,
    smoothing: int | None = None,
    chains: int | None = None,
    samples: int = SAMPLES,
) -> Minimum:
    """Estimate by SAEM or by EM with importance samples.

    Parameters
    ----------
    crowd : subjects
    begin : (p,) array, where to start
    method : "saem" or "importance" [text]
    seed : of the draws [1]
    iterations : with full weight on what is new; default 300 (saem), 40 (importance) [1]
    smoothing : after those, averaging; default 200 (saem), 40 (importance) [1]
    chains : per subject, SAEM; default so that subjects times chains reach 400 [1]
    samples : per subject and iteration, importance [1]

    Returns
    -------
    Minimum
        Modes and the FOCE-I objective at the estimates; interrupted, what was reached.
    """
    explore = iterations if iterations is not None else (EXPLORE if method == "saem" else EM_EXPLORE)
    smooth = smoothing if smoothing is not None else (SMOOTH if method == "saem" else EM_SMOOTH)
    if explore < 1 or smooth < 0:
        raise FitError(f"{method}: iterations {explore} and smoothing {smooth}; at least 1 and 0 are needed")
    rng = np.random.default_rng([seed, STREAM])
    phi = np.array(begin, dtype=float)
    at = objective(crowd, phi, gradient=False)
    if not np.isfinite(at.each).all():
        lost = [p.name for p, v in zip(crowd.people, at.each, strict=True) if not np.isfinite(v)]
        raise FitError(f"{method}: the model of subject {', '.join(lost[:5])} cannot be solved at the start values")
    people = len(crowd.people)
    copies = chains or max(1, -(-ENOUGH // people))
    many = crowd.repeated(copies if method == "saem" else batches(crowd, samples)[0])
    walk = _Walk.begin(many, phi, np.tile(at.b, (copies, 1))) if method == "saem" else None
    statistics = Statistics.empty(crowd)
    trace, path = [], [phi.copy()]
    interrupted = False
    try:
        with progress(f"{method}: iterations", explore + smooth) as done:
            for n in range(explore + smooth):
                weight = 1.0 if n < explore else 1.0 / (n - explore + 1)
                if walk is not None:
                    if n % AGAIN == 0:
                        at = objective(crowd, phi, at.b, gradient=False)
                    walk.advance(crowd, many, phi, at, rng, tune=n < explore)
                    drawn = Draws(walk.b.reshape(copies, people, -1), np.full((copies, people), 1 / copies))
                else:
                    at = objective(crowd, phi, at.b, gradient=False)
                    drawn = _weighed(crowd, phi, at, samples, rng)
                new, statistics, moved = update(crowd, phi, drawn, statistics, weight, anneal=2 * n < explore)
                if not np.isfinite(new).all():
                    raise FitError(f"{method}: estimates left all bounds at iteration {n + 1}; try other start values")
                phi = new
                if walk is not None:  # the subjects' own parameters stay; their effects are what is left
                    walk.b[:, : moved.shape[1]] -= np.tile(moved, (copies, 1))
                path.append(phi.copy())
                trace.append(at.value if walk is None else float(-2 * walk.value.sum() / copies))
                done(1)
    except KeyboardInterrupt:
        interrupted = True
    at = objective(crowd, phi, at.b, gradient=False)
    said = f"{len(trace)} iterations, the last {max(len(trace) - explore, 0)} averaged"
    if interrupted:
        said = f"interrupted after {said}; this is the best so far"
    return Minimum(phi, at, (np.nan, *trace), not interrupted, interrupted, said, np.array(path))


@dataclass(slots=True, eq=False)
class _Walk:
    """One Metropolis chain per subject over its random effects."""

    b: Array  # (people, q)
    value: Array  # (people,) log density of the data
    scale: Array  # (q + 1,) of the steps: one effect at a time, and all together

    @classmethod
    def begin(cls, crowd: Crowd, phi: Array, b: Array) -> _Walk:
        x = crowd.layout.typical(phi) + b @ crowd.layout.design.T
        return cls(b.copy(), log_data(crowd, phi, x), np.full(b.shape[1] + 1, 0.4))

    def advance(
        self, crowd: Crowd, many: Crowd, phi: Array, at: Objective, rng: np.random.Generator, *, tune: bool
    ) -> None:
        """Steps that leave the distribution given the data as it is: some about the modes, which forget where they
        come from (Karimi 2020, doi:10.1016/j.csda.2019.07.001), and random walks, which reach what the modes miss."""
        layout = many.layout
        prior = layout.prior(phi)
        inverse = np.linalg.inv(prior)
        mean = layout.typical(phi)
        chains, q = self.b.shape
        copies = chains // len(crowd.people)
        self.value = log_data(many, phi, mean + self.b @ layout.design.T)

        def move(trial: Array, bias: Array | float) -> float:
            value = log_data(many, phi, mean + trial @ layout.design.T)
            gain = value - self.value - 0.5 * _quadratic(trial, inverse) + 0.5 * _quadratic(self.b, inverse) + bias
            with np.errstate(invalid="ignore"):
                taken = np.log(rng.random(chains)) < np.nan_to_num(gain, nan=-np.inf)
            self.b[taken], self.value[taken] = trial[taken], value[taken]
            return float(taken.mean())

        for _ in range(INDEPENDENT):
            trial, log_new = propose(at, rng, copies)
            log_old = proposal_density(at, self.b.reshape(trial.shape))
            move(trial.reshape(chains, q), (log_old - log_new).ravel())
        sd = np.sqrt(np.diag(prior))
        j = int(rng.integers(q + 1))  # one effect, or all together
        which = slice(j, j + 1) if j < q else slice(None)
        step = np.zeros((chains, q))
        step[:, which] = rng.standard_normal((chains, 1 if j < q else q)) * sd[which] * self.scale[j]
        share = move(self.b + step, 0.0)
        if tune:
            self.scale[j] = float(np.clip(self.scale[j] * np.exp(0.5 * (share - ACCEPTED)), 1e-3, 10.0))


def _quadratic(b: Array, inverse: Array) -> Array:
    return np.asarray(np.einsum("pi,ij,pj->p", b, inverse, b))


def _weighed(crowd: Crowd, phi: Array, at: Objective, samples: int, rng: np.random.Generator) -> Draws:
    """Draws about the modes with weights that sum to one for each subject."""
    drawn, logs = [], []
    for n in batches(crowd, samples):
        b, log_q = propose(at, rng, n)
        drawn.append(b)
        logs.append(log_joint(crowd, phi, b) - log_q)
    return Draws(np.concatenate(drawn), np.asarray(softmax(np.concatenate(logs), axis=0)))
