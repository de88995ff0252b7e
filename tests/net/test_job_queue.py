from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dilithion_ws.net.job_queue import JobQueue, QueuedJob


def every(tenant: object) -> bool:
    return True


def job(priority: int = 0, tenant: str | None = None) -> QueuedJob:
    return QueuedJob(lambda: None, priority, tenant)


def test_higher_priorities_go_first_and_each_in_order() -> None:
    queue = JobQueue(10)
    jobs = [job(0), job(2), job(1), job(2)]
    assert [queue.put(one) for one in jobs] == [None] * 4
    assert [queue.pop(every) for _ in range(5)] == [jobs[1], jobs[3], jobs[2], jobs[0], None]


def test_a_full_queue_evicts_the_newest_job_of_the_lowest_priority_for_a_higher_one() -> None:
    queue = JobQueue(2)
    first, second, higher, equal = job(), job(), job(1), job()
    assert queue.put(first) is None
    assert queue.put(second) is None
    assert queue.put(equal) is equal
    assert queue.put(higher) is second
    assert [queue.pop(every), queue.pop(every), queue.pop(every)] == [higher, first, None]


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


def test_the_next_job_is_one_of_a_tenant_that_may_run_one() -> None:
    queue = JobQueue(10)
    jobs = [job(2, "busy"), job(0, "busy"), job(0, "other")]
    for one in jobs:
        queue.put(one)
    assert queue.pop(lambda job: job.tenant != "busy") is jobs[2]
    assert queue.pop(lambda job: job.tenant != "busy") is None
    assert [queue.pop(every), queue.pop(every)] == jobs[:2]


class QueueModel(RuleBasedStateMachine):
    """Jobs come and go in any order; each ends in exactly one way, and no rule of the queue is broken."""

    CAPACITY, QUOTA = 5, 2

    def __init__(self) -> None:
        super().__init__()
        self.queue = JobQueue(self.CAPACITY, self.QUOTA)
        self.waiting: list[QueuedJob] = []

    def count(self, tenant: object) -> int:
        return sum(job.tenant == tenant for job in self.waiting)

    @rule(priority=st.integers(0, 2), tenant=st.sampled_from([None, "a", "b", "c"]))
    def put(self, priority: int, tenant: str | None) -> None:
        added = job(priority, tenant)
        evicted = self.queue.put(added)
        if len(self.waiting) < self.CAPACITY:
            assert evicted is None
        else:
            assert evicted is not None
        if evicted is added:
            assert all(other.priority >= priority for other in self.waiting)
            assert tenant is None or self.count(tenant) >= self.QUOTA or self.over_quota() == set()
            return
        self.waiting.append(added)
        if evicted is not None:
            is_lower = evicted.priority < priority
            assert is_lower or (evicted.tenant in self.over_quota() and self.count(tenant) <= self.QUOTA)
            self.waiting.remove(evicted)

    def over_quota(self) -> set[object]:
        return {one.tenant for one in self.waiting if one.tenant is not None and self.count(one.tenant) > self.QUOTA}

    @rule()
    def pop(self) -> None:
        found = self.queue.pop(every)
        if not self.waiting:
            assert found is None
            return
        best = max(one.priority for one in self.waiting)
        assert found is next(one for one in self.waiting if one.priority == best)
        self.waiting.remove(found)

    @rule(at=st.integers(0, 10))
    def remove(self, at: int) -> None:
        if self.waiting:
            removed = self.waiting.pop(at % len(self.waiting))
            self.queue.remove(removed.run)
        else:
            self.queue.remove(print)

    @invariant()
    def the_count_is_right(self) -> None:
        assert len(self.queue) == len(self.waiting) <= self.CAPACITY


TestQueueModel = QueueModel.TestCase
