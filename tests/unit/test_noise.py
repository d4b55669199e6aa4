"""Noise: densities against scipy.stats, derivatives against differences and a complex step, censored values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from synthetic import Array, curve, curves, protocol

from pkmodel.assembly import load_model
from pkmodel.errors import FitError
from pkmodel.inference.binding import build_likelihood
from pkmodel.inference.noise import Noise, Scatter, Size, default_noise, lognormal_noise
from pkmodel.inference.observations import Observations, gather
from pkmodel.inference.protocol import ErrorModel
from pkmodel.labelling import label
from support import report

T = np.array([1.0, 4.0, 24.0, 72.0, 168.0])
Y = np.array([20.0, 30.0, 25.0, 12.0, 4.0])
F = np.array([18.0, 33.0, 25.5, 10.0, 5.0])


def _data(**changes: object) -> Observations:
    made = gather([curve("liver", T, Y), curve("kidney", T[:3], Y[:3])], ErrorModel())
    return replace(made, **changes)  # type: ignore[arg-type]


BOTH = Noise(
    ("liver", "kidney"),
    (Scatter("normal", 0, 1), Scatter("normal", -1, 2)),
    (Size("additive[liver]", 0.7), Size("proportional[liver]", 0.2), Size("proportional[kidney]", 0.1)),
)
FF = np.concatenate([F, F[:3]])


def test_log_density_is_the_normal_one() -> None:
    data = _data(shape=np.array([1.0, 2.0, 1.0, 0.5, 1.0, 1.0, 1.0, 1.0]))
    got = BOTH.log_density(FF, BOTH.start, data)
    sd = np.sqrt(np.array([0.49, 0.49, 0.49, 0.49, 0.49, 0, 0, 0]) * data.shape + ([0.04] * 5 + [0.01] * 3) * FF**2)
    for k, want in enumerate(np.asarray(stats.norm.logpdf(data.value, FF, sd))):
        report(f"value {k}", float(want), float(got.pointwise[k]), rtol=1e-13)


def test_a_lognormal_endpoint() -> None:
    noise = lognormal_noise(("liver", "kidney"), 0.3)
    data = _data()
    got = noise.log_density(FF, noise.start, data).pointwise
    for k, want in enumerate(np.asarray(stats.lognorm.logpdf(data.value, 0.3, scale=FF))):
        report(f"value {k}", float(want), float(got[k]), rtol=1e-13)


def test_censored_values_count_with_their_probability() -> None:
    data = _data(censored=np.array([-1, 1, 0, -1, 1, -1, 1, 0], dtype=np.int8))
    got = BOTH.log_density(FF, BOTH.start, data).pointwise
    sd = np.sqrt(BOTH.variance(FF, BOTH.start, data).value)
    for k, cut in enumerate(data.censored):
        law = stats.norm(FF[k], sd[k])
        want = (
            law.logpdf(data.value[k])
            if cut == 0
            else law.logcdf(data.value[k])
            if cut < 0
            else law.logsf(data.value[k])
        )
        report(f"value {k}", float(want), float(got[k]), rtol=1e-12)


def test_a_limit_far_below_the_prediction_has_a_finite_density() -> None:
    data = _data(censored=np.array([-1, 0, 0, 0, 0, 0, 0, 0], dtype=np.int8), value=np.array([0.1, *Y[1:], *Y[:3]]))
    f = FF.copy()
    f[0] = 400.0
    noise = Noise(("liver", "kidney"), (Scatter("normal", 0), Scatter("normal", 0)), (Size("additive", 5.0),))
    got = noise.log_density(f, noise.start, data)
    report("40 SD away", float(stats.norm.logcdf(0.1, 400.0, 5.0)), float(got.pointwise[0]), rtol=1e-12)
    assert np.isfinite(got.d_prediction).all() and np.isfinite(got.d_noise).all()


# Sixth-order central difference
STENCIL = ((1, 3 / 4), (2, -3 / 20), (3, 1 / 60))


@pytest.mark.parametrize("noise", [BOTH, lognormal_noise(("liver", "kidney"), 0.3)], ids=["normal", "lognormal"])
@pytest.mark.parametrize("cut", [0, 1])
def test_derivatives_are_those_of_the_density(noise: Noise, cut: int) -> None:
    data = _data(censored=np.array([-1, 1, 0, -1, 1, -1, 1, 0], dtype=np.int8) * np.int8(cut))
    z = noise.start + 0.1
    exact = noise.log_density(FF, z, data)
    h = 1e-3
    by_f, by_z = np.zeros(FF.size), np.zeros((FF.size, z.size))
    for m, w in STENCIL:
        step = m * h * FF
        up, down = (noise.log_density(FF + s * step, z, data).pointwise for s in (1, -1))
        by_f += w * (up - down) / (h * FF)
        for j in range(z.size):
            e = np.eye(z.size)[j] * m * h
            by_z[:, j] += (
                w * (noise.log_density(FF, z + e, data).pointwise - noise.log_density(FF, z - e, data).pointwise) / h
            )
    report("by the prediction", 0.0, float(np.abs(exact.d_prediction - by_f).max()), atol=1e-9)
    report("by the sizes", 0.0, float(np.abs(exact.d_noise - by_z).max()), atol=1e-9)
    spread = noise.variance(FF, z, data)
    complex_f = FF.astype(complex) + 1e-30j
    sizes = noise.from_scale(z)
    if noise is BOTH:
        a2, p2 = np.array([sizes[0] ** 2] * 5 + [0.0] * 3), np.array([sizes[1] ** 2] * 5 + [sizes[2] ** 2] * 3)
        want = (a2 + p2 * complex_f**2).imag / 1e-30
        report("slope of the variance", 0.0, float(np.abs(want - spread.d_prediction).max()), atol=1e-12)


def test_what_does_not_count_adds_nothing_and_what_is_impossible_is_minus_infinity() -> None:
    data = _data(value=np.array([np.nan, *Y[1:], *Y[:3]]), counted=np.array([False] + [True] * 7))
    f = FF.copy()
    f[3] = np.nan
    got = BOTH.log_density(f, BOTH.start, data)
    assert got.pointwise[0] == 0 and got.d_prediction[0] == 0 and not got.d_noise[0].any()
    assert got.pointwise[3] == -np.inf and got.d_prediction[3] == 0
    assert np.isfinite(got.pointwise[[1, 2, 4, 5, 6, 7]]).all()


@pytest.mark.parametrize(
    ("error", "names"),
    [
        ({"kind": "constant"}, ("additive[liver]", "additive[kidney]")),
        ({"kind": "constant", "pooled": True}, ("additive",)),
        ({"kind": "proportional"}, ("proportional[liver]", "proportional[kidney]")),
        (
            {"kind": "combined", "additive": 1.0, "proportional": 0.1},
            ("additive[liver]", "proportional[liver]", "additive[kidney]", "proportional[kidney]"),
        ),
        ({"kind": "combined", "additive": 1.0, "proportional": 0.1, "absolute": True}, ()),
    ],
)
def test_what_each_error_model_of_a_protocol_means(error: dict[str, object], names: tuple[str, ...]) -> None:
    model = ErrorModel(**error)  # type: ignore[arg-type]
    data = gather([curve("liver", T, Y), curve("kidney", T[:3], Y[:3])], model)
    assert default_noise(model, data).names == names


def test_weights_of_zero_and_missing_values_do_not_count() -> None:
    c = curve("a", T, [20.0, 999.0, np.nan, 12, 4], weights=[1.0, 0.0, 1.0, 4.0, 1.0], censored=[0, 0, 2, 0, -1])
    data = gather([c], ErrorModel(kind="weights"))
    assert data.counted.tolist() == [True, False, False, True, True] and data.censored.tolist() == [0, 0, 0, 0, -1]
    assert data.shape.tolist() == [1.0, 1.0, 1.0, 0.25, 1.0]


def test_noise_without_a_size_is_refused() -> None:
    with pytest.raises(FitError, match="liver: noise without a size"):
        Noise(("liver",), (Scatter(),), ())


def test_a_likelihood_predicts_every_value_and_least_squares_counts_the_measured_ones() -> None:
    model = label(load_model("organ_1_phase"), "Lu-177")
    full = build_likelihood(model, curves(curve("a", T, Y)), protocol("fraction k_washout"))
    cut = curve("a", T, [*Y[:4], np.nan], censored=[0, 0, 0, -1, 2])
    some = build_likelihood(model, curves(cut), protocol("fraction k_washout"))
    x: Array = np.array([s.to_scale(s.start) for s in full.slots])
    predicted = some.predict(x)
    assert np.array_equal(predicted.value, full.predict(x).value) and predicted.tangent.shape == (5, 2)
    assert some.points == 3 and some.evaluate(x).residuals.shape == (3,) and some.data.points == 4
