from __future__ import annotations

from dilithion_ws.net.job_queue import JobQueue, QueuedJob


def job(name: str, rank: int = 0, group: str | None = None) -> QueuedJob:
    return QueuedJob(lambda: None, rank, group)


def test_better_ranks_go_first_and_each_rank_in_order() -> None:
    line = JobQueue(10)
    jobs = [job("a", 0), job("b", 2), job("c", 1), job("d", 2)]
    assert [line.put(one) for one in jobs] == [None] * 4
    assert [line.pop() for _ in range(5)] == [jobs[1].job, jobs[3].job, jobs[2].job, jobs[0].job, None]


def test_a_full_line_gives_the_place_of_the_latest_of_the_worst_to_a_better_one() -> None:
    line = JobQueue(2)
    first, second, better, equal = job("a"), job("b"), job("c", 1), job("d")
    assert line.put(first) is None
    assert line.put(second) is None
    assert line.put(equal) is equal
    assert line.put(better) is second
    assert [line.pop(), line.pop(), line.pop()] == [better.job, first.job, None]


def test_when_the_line_is_full_a_group_gives_what_it_has_past_its_share_to_others() -> None:
    line = JobQueue(4, 2)
    mine = [job(str(at), 0, "mine") for at in range(5)]
    assert [line.put(one) for one in mine] == [None, None, None, None, mine[4]], "alone, it may have all places"
    first, second, third = (job(name, 0, "other") for name in "abc")
    assert line.put(first) is mine[3]
    assert line.put(second) is mine[2]
    assert line.put(third) is third, "both have their share now"
    line.remove(mine[0].job)
    assert line.put(mine[2]) is None
    line.clear()
    assert len(line) == 0
    assert [line.put(one) for one in mine] == [None, None, None, None, mine[4]]
