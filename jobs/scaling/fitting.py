"""Fit L = E + A / N^α + B / D^β to measured points: Huber's loss on logarithms, many starts, bootstrap intervals.

For given exponents the law is linear in E, A and B. A grid over the two exponents with the best three
coefficients of each gives the starts (variable projection, Golub and Pereyra 1973; why not parabolas:
arXiv 2603.22339). All starts, and later all bootstrap samples, are improved side by side by damped
Gauss-Newton steps on reweighted residuals. Then scipy polishes the start that wins. Coefficients are at
the points' mean size and tokens, where they hardly depend on the exponents.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.extras import install_hint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

DELTA = 1e-3
"""The residual at which Huber's loss changes from squares to absolute values (Hoffmann et al. 2022, 3.3)."""
GRID = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8, 1.0)
STARTS = 12
STEPS = 60
"""Gauss-Newton steps of a start. A bootstrap sample begins at the fit and needs no more."""
FEWEST = 8
"""The fewest points: five numbers are fitted, and the scatter needs some points more."""
BANDWIDTH = 1.06
"""Width of the smoothing kernel for one point, in standard deviations (Silverman 1986, equation 3.28)."""
OUTLIER = 6.0
"""A point that is off by more robust standard deviations than this is an outlier."""
ROUNDS = 10
"""The most times that outliers are judged anew by the fit without them. Two or three are enough in practice."""
NAMES = ("E", "A", "B", "alpha", "beta")


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One training: its size, its tokens, its final loss, and the name of its origin."""

    parameters: float
    tokens: float
    loss: float
    name: str = ""


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """The law that fits best, with an interval for each of its numbers."""

    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    level: float
    points: int
    scatter: float
    """Robust standard deviation of the logarithms' residuals."""
    outliers: tuple[str, ...]
    samples: tuple[tuple[float, float, float, float, float], ...]


class _Data:
    """The points as arrays, with sizes and tokens relative to their geometric means."""

    def __init__(self, points: list[Point]) -> None:
        import numpy as np

        log_n = np.log([point.parameters for point in points])
        log_d = np.log([point.tokens for point in points])
        self.centre_n = float(log_n.mean())
        self.centre_d = float(log_d.mean())
        self.n: Array = log_n - self.centre_n
        self.d: Array = log_d - self.centre_d
        self.y: Array = np.log([point.loss for point in points])


def fit(
    points: list[Point], *, level: float = 0.9, resamples: int = 400, seed: int = 0, keep: bool = False
) -> Fit:
    """Return the fit, with bootstrap intervals that should hold the truth with probability ``level``.

    Outliers are named and, without ``keep``, left out: with five outliers among 245 points, Besiroglu et al.
    2024 find B six times as large. Raises UserError for too few points, or for sizes or tokens that do not
    vary.
    """
    import numpy as np

    check(points)
    outliers, best = _outliers(points, seed)
    names = tuple(_label(points[index]) for index in sorted(outliers))
    data = _Data(points if keep else _without(points, outliers))
    # So far `best` is the fit without the outliers.
    if keep and outliers:
        best = _best(data, seed)

    samples = _bootstrap(data, best, resamples, seed)
    rows = np.array([_natural(data, each) for each in [best, *samples]])
    lowest, highest = np.quantile(rows[1:], [(1 - level) / 2, (1 + level) / 2], axis=0)

    return Fit(
        values=dict(zip(NAMES, rows[0].tolist(), strict=True)),
        intervals={
            name: (float(low), float(high)) for name, low, high in zip(NAMES, lowest, highest, strict=True)
        },
        level=level,
        points=len(data.y),
        scatter=_scatter(_residuals(data, best[None], data.n, data.d, data.y)[0]),
        outliers=names,
        samples=tuple(tuple(row) for row in rows[1:].tolist()),
    )


def check(points: list[Point]) -> None:
    """Raise UserError for points that cannot determine a law."""
    if len(points) < FEWEST:
        raise UserError(f"{len(points)} points cannot fit five numbers; {FEWEST} are the fewest")

    for name in ("parameters", "tokens", "loss"):
        values = [getattr(point, name) for point in points]
        if min(values) <= 0 or not all(map(math.isfinite, values)):
            raise UserError(f"{name}: every point needs a positive number")

    for name in ("parameters", "tokens"):
        values = [getattr(point, name) for point in points]
        if max(values) < 2 * min(values):
            raise UserError(
                f"{name} of the points go from {min(values):.3g} to {max(values):.3g}: too narrow for an exponent",
                hint="add runs of other sizes and lengths, over a factor of ten at least",
            )


def _label(point: Point) -> str:
    return point.name or f"N={point.parameters:.4g}, D={point.tokens:.4g}, L={point.loss:.4f}"


def _natural(data: _Data, row: Array) -> list[float]:
    """Return E, A, B, α and β from a row: the logarithms of E, A and B at the centre, and the exponents."""
    e, a, b, alpha, beta = (float(value) for value in row)
    return [math.exp(e), math.exp(a + alpha * data.centre_n), math.exp(b + beta * data.centre_d), alpha, beta]


def _residuals(data: _Data, rows: Array, n: Array, d: Array, y: Array) -> Array:
    """Return the log of the prediction minus the log of the loss, ``[rows, points]``."""
    import numpy as np

    e, a, b, alpha, beta = rows.T[..., None]
    # It is computed in logarithms, so that no term overflows for a start far from the fit.
    result: Array = np.logaddexp(np.logaddexp(a - alpha * n, b - beta * d), e) - y
    return result


def _huber(residuals: Array) -> Array:
    """Return Huber's loss of each row, summed over its points."""
    import numpy as np

    size = np.abs(residuals)
    result: Array = np.where(size <= DELTA, 0.5 * size**2, DELTA * (size - 0.5 * DELTA)).sum(-1)
    return result


def _starts(data: _Data) -> Array:
    """Return the best coefficients for each pair of exponents as logarithms, ``[pairs, 5]``.

    The best pairs come first.
    """
    import numpy as np

    rows = []
    for alpha in GRID:
        for beta in GRID:
            columns = np.stack(
                [np.ones_like(data.n), np.exp(-alpha * data.n), np.exp(-beta * data.d)], axis=1
            )
            # Relative errors of the loss are, in first order, those of its logarithm.
            weight = np.exp(-data.y)[:, None]
            coefficients = np.linalg.lstsq(columns * weight, np.ones(len(data.y)), rcond=None)[0]
            # A coefficient can come out negative, and its logarithm is needed.
            floor = 1e-3 * float(np.exp(data.y).mean())
            rows.append([*np.log(np.maximum(coefficients, floor)), alpha, beta])

    starts: Array = np.array(rows)
    order = np.argsort(_huber(_residuals(data, starts, data.n, data.d, data.y)))
    result: Array = starts[order]
    return result


def _improve(data: _Data, rows: Array, n: Array, d: Array, y: Array, steps: int) -> Array:
    """Improve all rows at once by damped Gauss-Newton steps, each on its own points.

    Keep only steps that help.
    """
    import numpy as np

    damping = np.full(len(rows), 1e-3)
    loss = _huber(_residuals(data, rows, n, d, y))
    for _ in range(steps):
        residuals = _residuals(data, rows, n, d, y)
        gradients = _gradients(rows, n, d, residuals + y)
        # Reweighted squares have the gradient of Huber's loss: a residual beyond DELTA counts by its absolute
        # value.
        weights = 1.0 / np.maximum(np.abs(residuals), DELTA)
        normal = np.einsum("rip,ri,riq->rpq", gradients, weights, gradients)
        right = np.einsum("rip,ri,ri->rp", gradients, weights, residuals)

        diagonal = np.einsum("rpp->rp", normal)
        # A term that has vanished has a zero here, which could not be solved.
        damped = normal + np.eye(5) * (damping[:, None] * diagonal + 1e-12)[:, None, :]
        moved = rows - np.linalg.solve(damped, right[..., None])[..., 0]
        # Exponents outside this range are not a scaling law. A term could grow without bound.
        moved[:, 3:] = np.clip(moved[:, 3:], 1e-3, 3.0)

        new = _huber(_residuals(data, moved, n, d, y))
        better = new < loss
        rows = np.where(better[:, None], moved, rows)
        loss = np.where(better, new, loss)
        # Levenberg and Marquardt: bolder after a step that helped, more careful after one that did not.
        damping = np.clip(np.where(better, damping / 3, damping * 4), 1e-9, 1e6)

    return rows


def _gradients(rows: Array, n: Array, d: Array, predicted: Array) -> Array:
    """Return the derivatives of the prediction's logarithm by the five numbers, ``[rows, points, 5]``."""
    import numpy as np

    e, a, b, alpha, beta = rows.T[..., None]
    of_e = np.exp(e - predicted)
    of_a = np.exp(a - alpha * n - predicted)
    of_b = np.exp(b - beta * d - predicted)
    result: Array = np.stack([of_e, of_a, of_b, -n * of_a, -d * of_b], axis=-1)
    return result


def _best(data: _Data, seed: int) -> Array:
    """Improve the best starts, and polish the best of them."""
    import numpy as np

    rows = _improve(data, _starts(data)[:STARTS], data.n, data.d, data.y, STEPS)
    losses = _huber(_residuals(data, rows, data.n, data.d, data.y))
    return _polished(data, rows[int(np.argmin(losses))])


def _polished(data: _Data, row: Array) -> Array:
    """Return the minimum near ``row`` by scipy.

    Near the minimum its line search is faster than reweighting.
    """
    import numpy as np

    try:
        from scipy.optimize import minimize
    except ImportError:
        raise UserError("jobctl fit needs scipy", hint=install_hint("fit")) from None

    def objective(values: Array) -> tuple[float, Any]:
        rows = values[None]
        residuals = _residuals(data, rows, data.n, data.d, data.y)
        slopes = np.clip(residuals, -DELTA, DELTA)
        gradients = _gradients(rows, data.n, data.d, residuals + data.y)
        # Scaled, so that the stopping rule sees numbers near one.
        return float(_huber(residuals)[0]) / DELTA, np.einsum("ri,rip->p", slopes, gradients) / DELTA

    answer = minimize(objective, row, jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 2000})
    # A line search that fails may end at a worse point.
    result: Array = answer.x if answer.fun <= objective(row)[0] else row
    return result


def _bootstrap(data: _Data, best: Array, resamples: int, seed: int) -> Array:
    """Return fits to the predictions with residuals drawn with replacement, ``[resamples, 5]``.

    Sizes and tokens were chosen, so they stay as they are. Five numbers were fitted, which makes the
    residuals too small by the root of (n - 5) / n; this is undone first. Absolute values make some residuals
    exactly zero, so the drawn ones are smoothed by a kernel (Silverman and Young 1987). Without it the
    intervals are too narrow.
    """
    import numpy as np

    count = len(data.y)
    residuals = -_residuals(data, best[None], data.n, data.d, data.y)[0]
    residuals = (residuals - residuals.mean()) * math.sqrt(count / (count - 5))
    predicted = data.y + _residuals(data, best[None], data.n, data.d, data.y)[0]

    generator = np.random.default_rng(seed)
    drawn = residuals[generator.integers(count, size=(resamples, count))]
    # The width falls with the fifth root of the count (Silverman's rule).
    width = BANDWIDTH * float(residuals.std()) * count**-0.2
    drawn = drawn + width * generator.standard_normal((resamples, count))

    rows = np.repeat(best[None], resamples, axis=0)
    return _improve(data, rows, data.n, data.d, predicted + drawn, STEPS)


def _scatter(residuals: Array) -> float:
    """Return the standard deviation of a normal distribution with this median of absolute residuals."""
    import numpy as np

    # In a normal distribution the median of absolute values is the deviation divided by 1.4826.
    return 1.4826 * float(np.median(np.abs(residuals)))


def _outliers(points: list[Point], seed: int) -> tuple[frozenset[int], Array]:
    """Return the numbers of the points that are too far off to be scatter, and the fit without them.

    Far outliers draw the first fit towards them, so that good points look bad and bad ones good. The fit without them
    judges all points again, until the answer stays the same.
    """
    outliers: frozenset[int] = frozenset()
    for _ in range(ROUNDS):
        used = _without(points, outliers)
        # The outliers may leave too few points.
        check(used)
        data = _Data(used)
        best = _best(data, seed)
        judged = _far_off(points, data, best, outliers)
        if judged == outliers:
            return outliers, best

        outliers = judged

    return outliers, _best(_Data(_without(points, outliers)), seed)


def _without(points: list[Point], outliers: frozenset[int]) -> list[Point]:
    return [point for index, point in enumerate(points) if index not in outliers]


def _far_off(points: list[Point], data: _Data, best: Array, outliers: frozenset[int]) -> frozenset[int]:
    """Return the numbers of the points that are far from the fit to ``data``.

    The unit is the scatter of its points.
    """
    import numpy as np

    everything = _Data(points)
    n = everything.n + (everything.centre_n - data.centre_n)
    d = everything.d + (everything.centre_d - data.centre_d)
    residuals = _residuals(data, best[None], n, d, everything.y)[0]

    judged = np.array([index not in outliers for index in range(len(points))])
    # Points without scatter would make outliers of rounding errors.
    limit = OUTLIER * max(_scatter(residuals[judged]), DELTA)
    return frozenset(int(index) for index in np.flatnonzero(np.abs(residuals) > limit))


def law_document(made: Fit, origin: str) -> dict[str, Any]:
    """Return the fit in the form of a law's YAML, with its samples. Numbers have seven digits."""

    def short(value: float) -> float:
        return float(f"{value:.7g}")

    values = made.values
    return {
        "summary": f"fit to {made.points} points",
        "source": origin,
        "irreducible": short(values["E"]),
        "parameters": {"coefficient": short(values["A"]), "exponent": short(values["alpha"])},
        "tokens": {"coefficient": short(values["B"]), "exponent": short(values["beta"])},
        "loss_error": short(made.scatter * values["E"]),
        "samples": [[short(value) for value in sample] for sample in made.samples],
    }
