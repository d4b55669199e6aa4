"""Draws from a posterior: chains one by one, each with its own seed, shown as they run and kept when they are done.

A chain's random numbers depend on the seed and on its number only. So the same seed gives the same draws whatever the
number of processors, and a run that was interrupted goes on, from its file, with the chains that are missing. An
interrupted run without a file keeps its finished chains, or what all chains have drawn so far.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...errors import FitError
from ...progress import progress

Sampler = Literal["nutpie", "pymc"]
SAMPLERS: tuple[Sampler, ...] = ("nutpie", "pymc")
FEWEST = 10  # draws of an interrupted chain that are worth keeping


@dataclass(frozen=True, slots=True)
class Settings:
    """How to sample.

    Parameters
    ----------
    draws, tune, chains : kept draws and warm-up draws of each chain, and how many chains [1]
    seed : of the random numbers [1]
    sampler : "nutpie" or "pymc" [text]
    target_accept : mean acceptance that step sizes are tuned to [1]
    cores : chains that run at once; default one a processor [1]
    """

    draws: int = 1000
    tune: int = 1000
    chains: int = 4
    seed: int = 0
    sampler: Sampler = "nutpie"
    target_accept: float = 0.9
    cores: int | None = None

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise FitError(f"sampler {self.sampler!r} is not known; allowed: {', '.join(SAMPLERS)}")
        for name in ("draws", "tune", "chains"):
            v = getattr(self, name)
            if isinstance(v, bool) or not isinstance(v, int) or v < 1:
                raise FitError(f"{name} = {v!r} must be a whole number above zero")
        if not 0 < self.target_accept < 1:
            raise FitError(f"target_accept = {self.target_accept!r} must lie between 0 and 1")

    @property
    def words(self) -> str:
        """What makes one run the same as another, but for the data."""
        return json.dumps([self.draws, self.tune, self.chains, self.seed, self.sampler, self.target_accept])

    def seed_of(self, chain: int) -> int:
        """Seed of one chain."""
        return int(np.random.SeedSequence([self.seed, chain]).generate_state(1)[0])


@dataclass(frozen=True)
class Drawn:
    """Draws as an xarray DataTree (posterior, sample_stats), and what went otherwise than planned.

    Parameters
    ----------
    tree : xarray.DataTree
    notes : for the reader [text]
    seconds : compiling, and sampling [s]
    """

    tree: Any
    notes: tuple[str, ...]
    seconds: tuple[float, float]


def sample(
    model: Any, settings: Settings, *, key: str = "", file: str | Path | None = None, compiled: Any = None
) -> Drawn:
    """Draw from the posterior of a PyMC model.

    Parameters
    ----------
    model : pymc.Model
    settings : how
    key : names data and model in the file [text]
    file : NetCDF file, written whenever a chain is done; the same call goes on where it stopped [path]
    compiled : from `compile_model`, where it was compiled before

    Raises
    ------
    FitError
        The file holds another run, or no chain finds a place to start.
    """
    mark = hashlib.sha256(f"{key} {settings.words}".encode()).hexdigest()
    done = _read(file, mark)
    missing = [c for c in range(settings.chains) if c not in done]
    began = time.perf_counter()
    notes: list[str] = []
    if done and missing:
        notes.append(f"chains {', '.join(map(str, sorted(done)))} were read from {Path(str(file)).name}")
    if missing and settings.sampler == "nutpie" and compiled is None:
        compiled = compile_model(model)
    ready = time.perf_counter()
    if missing:
        run = _nutpie if settings.sampler == "nutpie" else _pymc
        notes += run(compiled if settings.sampler == "nutpie" else model, settings, missing, done, file, mark)
    if not done:
        raise FitError("sampling was interrupted before any chain had draws; nothing is kept")
    chains = [done[c] for c in sorted(done)]
    return Drawn(_joined(chains), tuple(notes), (ready - began, time.perf_counter() - ready))


def compile_model(model: Any) -> Any:
    """Machine code of a model for nutpie; its data can be exchanged with ``with_data``."""
    import nutpie

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*object mode.*")
        return nutpie.compile_pymc_model(model, backend="numba")


def _nutpie(
    compiled: Any, settings: Settings, missing: Sequence[int], done: dict[int, Any], file: Any, mark: str
) -> list[str]:
    """Run chains in threads; returns notes."""
    import nutpie

    wave = settings.cores or min(len(missing), os.cpu_count() or 1)
    total = (settings.draws + settings.tune) * len(missing)
    shown, lock = dict.fromkeys(missing, 0), threading.Lock()

    def watch(chain: int) -> Any:
        def told(state: Any) -> None:
            with lock:
                shown[chain] = int(state[0].finished_draws)

        return told

    waiting = list(missing)
    running: dict[int, Any] = {}
    with progress(f"sampling {len(missing)} chains", total) as advance:
        before = 0
        try:
            while waiting or running:
                while waiting and len(running) < wave:
                    chain = waiting.pop(0)
                    running[chain] = nutpie.sample(
                        compiled, draws=settings.draws, tune=settings.tune, chains=1, cores=1,
                        seed=settings.seed_of(chain), save_warmup=False, progress_bar=False, blocking=False,
                        progress_callback=watch(chain), progress_rate=200, target_accept=settings.target_accept,
                    )  # fmt: skip
                for chain in [c for c, s in running.items() if _finished(s)]:
                    done[chain] = _sampled(running.pop(chain))
                    shown[chain] = settings.draws + settings.tune
                    _write(file, mark, done)
                now = sum(shown.values())
                advance(now - before)
                before = now
                time.sleep(0.005 if total < 20_000 else 0.05)
        except KeyboardInterrupt:
            return _stopped(running, done, settings)
        except BaseException:
            for sampler in running.values():  # threads of it must not outlive this call
                with contextlib.suppress(Exception):
                    sampler.cancel()
            raise
    return []


def _finished(sampler: Any) -> bool:
    try:
        return bool(sampler.is_finished)
    except TimeoutError:  # nutpie's word for "not yet"
        return False
    except RuntimeError:  # it could not start: `_sampled` says why
        return True


def _sampled(sampler: Any) -> Any:
    try:
        return sampler.wait()
    except Exception as error:
        raise FitError(
            f"no chain could start: {error}; the priors may hardly touch what the model can be solved for, or the data"
        ) from error


def _stopped(running: dict[int, Any], done: dict[int, Any], settings: Settings) -> list[str]:
    """What is kept of an interrupted run."""
    parts = {}
    for chain, sampler in running.items():
        with contextlib.suppress(Exception):
            parts[chain] = sampler.abort()
    if done:
        return [f"interrupted: {len(done)} of {settings.chains} chains are kept, those that were finished"]
    lengths = {c: t["posterior"].sizes.get("draw", 0) for c, t in parts.items() if "posterior" in t.children}
    fewest = min((n for n in lengths.values() if n), default=0)
    if fewest < FEWEST:
        return []
    for chain in (c for c, n in lengths.items() if n):
        done[chain] = parts[chain].isel(draw=slice(0, fewest))
    return [f"interrupted: {fewest} of {settings.draws} draws of {len(done)} chains are kept"]


def _pymc(
    model: Any, settings: Settings, missing: Sequence[int], done: dict[int, Any], file: Any, mark: str
) -> list[str]:
    """PyMC's own sampler, one chain after the other; returns notes."""
    import logging

    import pymc as pm

    quiet = logging.getLogger("pymc")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    total = (settings.draws + settings.tune) * len(missing)
    try:
        with progress(f"sampling {len(missing)} chains", total) as advance, warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*object mode.*")
            for chain in missing:
                found = pm.sample(
                    draws=settings.draws, tune=settings.tune, chains=1, cores=1, random_seed=[settings.seed_of(chain)],
                    nuts_sampler="pymc", progressbar=False, compute_convergence_checks=False, model=model,
                    target_accept=settings.target_accept, callback=lambda trace, draw: advance(1),
                )  # fmt: skip
                if found["posterior"].sizes["draw"] < settings.draws:  # PyMC returns what it has when interrupted
                    if not done and found["posterior"].sizes["draw"] >= FEWEST:
                        done[chain] = found
                    return [f"interrupted: {len(done)} of {settings.chains} chains are kept"]
                done[chain] = found
                _write(file, mark, done)
    except KeyboardInterrupt:
        return [f"interrupted: {len(done)} of {settings.chains} chains are kept, those that were finished"]
    finally:
        quiet.setLevel(level)
    return []


def _joined(chains: list[Any]) -> Any:
    """Chains side by side, numbered from zero; without what only the sampler's own coordinates need."""
    import xarray as xr

    groups = {}
    for name in ("posterior", "sample_stats"):
        parts = [c[name].to_dataset().assign_coords(chain=[k]) for k, c in enumerate(chains)]
        common = [v for v in parts[0].data_vars if all(v in p for p in parts)]
        groups[name] = xr.concat([p[common] for p in parts], "chain", join="override", combine_attrs="override")
    return xr.DataTree.from_dict(groups)


def _read(file: str | Path | None, mark: str) -> dict[int, Any]:
    """Finished chains of a file."""
    if file is None or not Path(file).exists():
        return {}
    import xarray as xr

    with xr.open_datatree(file, engine="h5netcdf") as tree:
        if tree.attrs.get("run") != mark:
            raise FitError(
                f"{Path(file).name}: holds another run (other data, model, priors or settings); give another file, or "
                "remove this one"
            )
        tree.load()
        numbers = [int(c) for c in np.atleast_1d(tree.attrs["chains"])]
        found = {}
        for k, number in enumerate(numbers):
            parts = {n: tree[n].to_dataset().isel(chain=[k]) for n in ("posterior", "sample_stats")}
            found[number] = xr.DataTree.from_dict(parts)
        return found


def _write(file: str | Path | None, mark: str, done: dict[int, Any]) -> None:
    """Keep the finished chains; whole or not at all."""
    if file is None:
        return
    tree = _joined([done[c] for c in sorted(done)])
    for name in ("posterior", "sample_stats"):  # attributes and types that NetCDF cannot hold
        data = tree[name].to_dataset()
        data.attrs = {}
        tree[name] = data.map(lambda v: v.astype("int8") if v.dtype == bool else v)
    tree.attrs = {"run": mark, "chains": sorted(done)}
    target = Path(file)
    partial = target.with_suffix(target.suffix + ".part")
    tree.to_netcdf(partial, engine="h5netcdf")
    os.replace(partial, target)
