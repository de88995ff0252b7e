from __future__ import annotations

from dilithion_ws.rpc.duration_histogram import BUCKET_BOUNDS, DurationHistogram


def test_buckets_are_cumulative_and_end_without_a_bound() -> None:
    histogram = DurationHistogram()
    histogram.counts[0] += 2
    histogram.counts[3] += 1
    histogram.counts[-1] += 4
    buckets = histogram.cumulative()
    assert [bound for bound, _ in buckets] == [*map(str, BUCKET_BOUNDS), "+Inf"]
    assert [count for _, count in buckets] == [2, 2, 2, *[3] * (len(BUCKET_BOUNDS) - 3), 7]
