import os
import signal
import threading

from rl.runs.stop_signal import StopSignal, stop_message


def test_sigterm_is_noted_and_the_earlier_handler_comes_back():
    seen = []
    earlier = signal.signal(signal.SIGTERM, lambda *_: seen.append("earlier"))
    try:
        with StopSignal() as stop:
            assert not stop.received
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)
            assert stop.received and not seen
        os.kill(os.getpid(), signal.SIGTERM)
        assert seen == ["earlier"]
    finally:
        signal.signal(signal.SIGTERM, earlier)


def test_outside_the_main_thread_it_does_nothing():
    before, inside = signal.getsignal(signal.SIGTERM), []

    def work():
        with StopSignal() as stop:
            inside.append((stop.received, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [(False, before)]


def test_the_message_says_how_to_go_on():
    assert "--resume_from runs/a" in stop_message(3, 10, "runs/a")
