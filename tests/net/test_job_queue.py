from __future__ import annotations

from dilithion_ws.net.job_queue import JobQueue, QueuedJob


def job(priority: int = 0, tenant: str | None = None) -> QueuedJob:
    return QueuedJob(lambda: None, priority, tenant)


def test_higher_priorities_go_first_and_each_in_order() -> None:
    queue = JobQueue(10)
    jobs = [job(0), job(2), job(1), job(2)]
    assert [queue.put(one) for one in jobs] == [None] * 4
    assert [queue.pop() for _ in range(5)] == [jobs[1], jobs[3], jobs[2], jobs[0], None]


def test_a_full_queue_evicts_the_newest_job_of_the_lowest_priority_for_a_higher_one() -> None:
    queue = JobQueue(2)
    first, second, higher, equal = job(), job(), job(1), job()
    assert queue.put(first) is None
    assert queue.put(second) is None
    assert queue.put(equal) is equal
    assert queue.put(higher) is second
    assert [queue.pop(), queue.pop(), queue.pop()] == [higher, first, None]


def test_a_full_queue_evicts_jobs_of_a_tenant_over_quota_for_other_tenants() -> None:
    queue = JobQueue(4, 2)
    mine = [job(0, "mine") for _ in range(5)]
    assert [queue.put(one) for one in mine] == [None, None, None, None, mine[4]], "alone, it may have all places"
    first, second, third = (job(0, "other") for _ in range(3))
    assert queue.put(first) is mine[3]
    assert queue.put(second) is mine[2]
    assert queue.put(third) is third, "both tenants are at their quota"
    queue.remove(mine[0].run)
    assert queue.put(mine[2]) is None
    queue.clear()
    assert len(queue) == 0
    assert [queue.put(one) for one in mine] == [None, None, None, None, mine[4]]
