import subprocess
import sys
import threading

import pytest

from reward.parallel.background import BackgroundThreads


def test_results_and_errors_come_out_of_the_futures():
    with BackgroundThreads(2) as threads:
        futures = [threads.submit(divmod, 7, n) for n in (2, 0, 3)]
        assert futures[0].result() == (3, 1) and futures[2].result() == (2, 1)
        with pytest.raises(ZeroDivisionError):
            futures[1].result()


def test_no_more_threads_than_told_and_they_end():
    seen = set()
    with BackgroundThreads(1) as threads:
        for future in [threads.submit(lambda: seen.add(threading.current_thread())) for _ in range(5)]:
            future.result()
    (thread,) = seen
    thread.join(10)
    assert not thread.is_alive()


def test_a_function_that_never_returns_does_not_keep_the_process():
    code = (
        "import time; from reward.parallel.background import BackgroundThreads\n"
        "with BackgroundThreads(2) as threads: future = threads.submit(time.sleep, 3600)\n"
        "future.result(0.1)"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=120, capture_output=True, text=True)
    assert done.returncode == 1 and "TimeoutError" in done.stderr
