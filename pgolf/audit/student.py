"""Student's t: distribution, quantile, and the power of a one-sided test, without scipy."""

from __future__ import annotations

import math

TINY, PRECISION, MAX_TERMS = 1e-300, 1e-15, 1000
# Of Simpson's rule. With one degree of freedom the integrand falls within a hundredth of the range.
INTEGRATION_STEPS = 4000


def cdf(t: float, df: float) -> float:
    """P(T <= t) of Student's t with `df` > 0 degrees of freedom, which need not be whole."""
    if math.isinf(t):
        return 0.0 if t < 0 else 1.0
    tail = 0.5 * incomplete_beta(df / (df + t * t), df / 2, 0.5)
    return 1.0 - tail if t > 0 else tail


def upper_tail(t: float, df: float) -> float:
    """P(T > t), exact where it is tiny."""
    return cdf(-t, df)


def quantile(p: float, df: float) -> float:
    """The t with P(T <= t) = p, by bisection; 0 < p < 1."""
    low, high = -1.0, 1.0
    while cdf(low, df) > p:
        low *= 2
    while cdf(high, df) < p:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if cdf(middle, df) < p else (low, middle)
    return (low + high) / 2


def power(shift: float, df: float, alpha: float) -> float:
    """How often a one-sided t-test at level `alpha` rejects when t is centred on `shift`.

    T = (Z + shift) / sqrt(W / df) with W chi-squared: P(T > c) is the mean of
    Phi(shift - c sqrt(W / df)) over W, by Simpson's rule over s = sqrt(W / df).
    """
    critical = quantile(1.0 - alpha, df)
    width = 12.0 / math.sqrt(2.0 * df)
    low, high = max(0.0, 1.0 - width), 1.0 + width
    step = (high - low) / INTEGRATION_STEPS
    total = mass = 0.0
    for index in range(INTEGRATION_STEPS + 1):
        s = low + index * step
        weight = (1 if index in (0, INTEGRATION_STEPS) else 4 if index % 2 else 2) * _density(s, df)
        total += weight * _normal_cdf(shift - critical * s)
        mass += weight
    return total / mass


def _density(s: float, df: float) -> float:
    """Density of sqrt(W / df), without its constant: 1 at s = 1."""
    if s <= 0.0:
        return math.exp(0.5) if df == 1.0 else 0.0
    return math.exp((df - 1.0) * math.log(s) - df * (s * s - 1.0) / 2.0)


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def incomplete_beta(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta I_x(a, b), by its continued fraction (Lentz's method)."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    # The fraction converges quickly below the mean; above it the symmetry is used.
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - incomplete_beta(1.0 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    return front * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    c, d = 1.0, 1.0 / _away_from_zero(1.0 - (a + b) * x / (a + 1.0))
    result = d
    for m in range(1, MAX_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        change = 1.0
        for coefficient in (even, odd):
            d = 1.0 / _away_from_zero(1.0 + coefficient * d)
            c = _away_from_zero(1.0 + coefficient / c)
            change = c * d
            result *= change
        if abs(change - 1.0) < PRECISION:
            break
    return result


def _away_from_zero(value: float) -> float:
    return value if abs(value) > TINY else TINY
