"""Fewer points of a long curve that look the same: largest triangle, three buckets (LTTB)."""

from __future__ import annotations

from collections.abc import Sequence


def lttb(xs: Sequence[float], ys: Sequence[float], limit: int) -> list[int]:
    """Indices of at most `limit` points, ascending; the first and the last are among them.

    The points between are cut into `limit - 2` buckets; of each the point is kept that spans the
    largest triangle with the one kept before and the mean of the bucket after (Steinarsson 2013).

    Args:
        xs, ys: coordinates, xs ascending.
        limit: 3 or more.
    """
    count = len(xs)
    if count <= limit:
        return list(range(count))
    width = (count - 2) / (limit - 2)
    cuts = [1 + int(index * width) for index in range(limit - 1)] + [count]
    cuts[limit - 2] = count - 1
    kept = [0]
    for index in range(limit - 2):
        begin, end, after = cuts[index], cuts[index + 1], cuts[index + 2]
        size = after - end
        mean_x, mean_y = sum(xs[end:after]) / size, sum(ys[end:after]) / size
        x, y = xs[kept[-1]], ys[kept[-1]]
        dx, dy = x - mean_x, mean_y - y
        best, largest = begin, -1.0
        for place in range(begin, end):
            area = abs(dx * (ys[place] - y) + (xs[place] - x) * dy)
            if area > largest:
                best, largest = place, area
        kept.append(best)
    return [*kept, count - 1]
