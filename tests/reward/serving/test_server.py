"""The command itself: its address, its port, and how it ends."""

import signal
import socket
import subprocess
import sys
import threading

import pytest
import requests
from PIL import Image

from benchmarks.serving.server import started
from reward.cli.main import main
from tests.reward.serving.conftest import base64_of

PICTURE = Image.new("RGB", (48, 48), "red")


def test_what_was_accepted_is_answered_before_it_ends():
    with started("--batch-size", "4") as (url, process):
        assert url.startswith("http://127.0.0.1:")
        answers = []
        body = {"images": [base64_of(PICTURE)] * 200, "prompts": "a red ring"}

        def ask():
            answers.append(requests.post(f"{url}/score", json=body, timeout=60))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        while "hyperalign_queued_pictures 0.0" in requests.get(f"{url}/metrics", timeout=60).text:
            pass
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(60)
        assert process.wait(60) == 143
        whole = [answer for answer in answers if answer.ok]
        # one that was not accepted yet may be refused, by name and not by silence
        assert whole and all(len(answer.json()["scores"]) == 200 for answer in whole)
        assert len({tuple(answer.json()["scores"]) for answer in whole}) == 1


def test_a_port_that_is_taken_is_said_before_a_model_is_loaded(capsys, monkeypatch):
    monkeypatch.setattr("reward.cli.main._load", lambda *_: pytest.fail("a model was loaded"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == 2
    assert "hyperalign serve:" in capsys.readouterr().err


def test_without_the_extra_it_names_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "reward.serving.server", raising=False)
    assert main(["serve"]) == 2
    assert "pip install 'hyperalign[serve]'" in capsys.readouterr().err


def test_reading_pickles_and_limits_needs_no_web_framework():
    code = "import sys, reward.serving.plain_pickle; print({'fastapi', 'uvicorn', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
