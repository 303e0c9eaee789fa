import threading

import pytest

from reward.serving.limits import Budget, Refused


def test_a_budget_is_given_back_whatever_happens():
    budget = Budget(100, "bytes")
    with pytest.raises(RuntimeError), budget.share() as take:
        take(40)
        take(60)
        assert budget.taken == 100
        raise RuntimeError
    assert budget.taken == 0


def test_more_than_is_left_is_refused_and_takes_nothing():
    budget = Budget(100, "bytes")
    with budget.share() as take, budget.share() as other:
        take(70)
        with pytest.raises(Refused, match="holds 70 of 100 bytes") as refused:
            other(31)
        assert refused.value.status == 429 and refused.value.retry_after and budget.taken == 70
        other(30)


def test_threads_share_a_budget():
    budget = Budget(10**9, "bytes")

    def work():
        for _ in range(1000):
            with budget.share() as take:
                take(3)
                take(4)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.taken == 0
