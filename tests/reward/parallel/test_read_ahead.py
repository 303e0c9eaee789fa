import threading
import time

import pytest

from reward.parallel.read_ahead import read_ahead


def test_results_come_in_order_whatever_takes_longest():
    def slow_first(number):
        time.sleep(0.02 if number == 0 else 0)
        return -number

    assert list(read_ahead(range(20), slow_first, workers=4)) == [(i, -i) for i in range(20)]


def test_reading_goes_on_in_other_threads_while_results_are_used():
    names = {name for _, name in read_ahead(range(5), lambda _: threading.current_thread().name, workers=2)}
    assert names and all(name.startswith("read_ahead") for name in names)


def test_it_never_runs_far_ahead():
    pulled = []

    def items():
        for i in range(100):
            pulled.append(i)
            yield i

    results = read_ahead(items(), lambda i: i, workers=2)
    for used in range(10):
        next(results)
        assert len(pulled) <= used + 1 + 3
    results.close()
    assert len(pulled) < 20


def test_an_error_comes_at_its_turn():
    results = read_ahead([1, 0, 2], lambda number: 1 / number, workers=2)
    assert next(results) == (1, 1.0)
    with pytest.raises(ZeroDivisionError):
        next(results)
