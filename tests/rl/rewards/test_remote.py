"""Rewards over HTTP: the scores, the waiting, and a run whose server is killed in the middle."""

import csv
import http.server
import io
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import torch
from PIL import Image
from safetensors.torch import load_file

from reward import HyperAlignReward
from reward.serving.server import listen
from rl.ddpo_train import main
from rl.rewards.loading import load_rewards
from rl.rewards.remote import RemoteReward, RewardServerError
from tests.reward.serving.conftest import running
from tinyworld import weights_path

ROOT = Path(__file__).resolve().parents[3]
PROMPTS = ["a red ring", "two blue squares", "a red ring left of a blue square", "a green triangle"]


@pytest.fixture(scope="module")
def tiny():
    return HyperAlignReward.from_pretrained(weights_path("hyperalign"))


@pytest.fixture
def pictures():
    return torch.rand(70, 3, 48, 48, generator=torch.Generator().manual_seed(0))


@contextmanager
def fake(*answers):
    """A server that answers as it is told, in this order, and the last one for ever.

    An answer is a body; (status, body, headers); or None: the connection is cut in the middle of an answer.
    """
    left, asked = list(answers), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
            answer = left.pop(0) if len(left) > 1 else left[0]
            status, body, headers = answer if isinstance(answer, tuple) else (200, answer, {})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body or b"") or 100))
            self.end_headers()
            self.wfile.write(b"{" if body is None else body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


GOOD = json.dumps({"rewards": [0.5, 1]}).encode()


def ask(url, count=2, patience=5.0):
    return RemoteReward(url, patience)(torch.rand(count, 3, 8, 8), ["a"] * count)[0].tolist()


def test_scores_are_those_of_the_pictures_files(tiny, pictures):
    prompts = (PROMPTS * 18)[:70]
    bytes_of = (pictures * 255).round().to(torch.uint8)
    local = []
    for at in range(0, 70, 32):
        tiny.backbone.clear_cache()
        local.append(tiny(bytes_of[at : at + 32], prompts[at : at + 32]))
    with running(tiny) as url:
        rewards = load_rewards([f"{url}/compute=2.0", f"flow-grpo+{url}=-0.5"])
        with pytest.raises(ValueError, match="different names"):
            load_rewards([f"{url}/compute", f"{url}/compute"])
        total, parts = load_rewards([f"{url}/compute=2.0"])(pictures, prompts)
        lossy = RemoteReward(f"flow-grpo+{url}")(pictures, prompts)[0]
    assert torch.equal(torch.cat(local), parts[rewards.names[0]]) and torch.equal(total, 2 * torch.cat(local))
    # JPEG at quality 95 of noise, the hardest picture there is
    assert 0 < (lossy - torch.cat(local)).abs().max() < 0.15


def test_specs(tiny):
    reward = RemoteReward("http://reward-host:8000/compute")
    assert reward.name == "reward-host_8000" and not reward.pickled
    reward = RemoteReward("flow-grpo+https://user:word@host/score/")
    assert reward.pickled and reward.url == "https://user:word@host/score/" and reward.name == "flow-grpo_host_score"
    for url in ("ftp://host/compute", "http://", "flow-grpo+ftp://a"):
        with pytest.raises(ValueError, match="http://127.0.0.1:8000/compute"):
            load_rewards([f"{url}=1.0"])


@pytest.mark.parametrize(
    "answer",
    [
        b"no json", b"[]", b"{}", b'{"rewards": [1]}', b'{"rewards": [1, "2"]}', b'{"rewards": "ab"}',
        b'{"rewards": [true, 1]}', b'{"rewards": null}', b"[" * 100_000, pickle.dumps({"scores": [1.0, 2.0]}),
    ],
)  # fmt: skip
def test_an_answer_without_scores_stops_the_run(answer):
    with fake(answer) as (url, asked), pytest.raises(RewardServerError, match="Expected 2 numbers of the reward"):
        ask(url)
    assert len(asked) == 1


def test_a_pickle_in_an_answer_runs_nothing(tmp_path):
    class Runs:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    with fake(pickle.dumps({"scores": [1.0, Runs()]})) as (url, _), pytest.raises(RewardServerError, match="run code"):
        ask(f"flow-grpo+{url}")
    assert not (tmp_path / "ran").exists()
    with fake(pickle.dumps({"outputs": [1.0, 2]})) as (url, asked):
        assert ask(f"flow-grpo+{url}") == [1.0, 2.0]
    body = pickle.loads(asked[0][1])
    assert set(body) == {"images", "prompts", "metadata"} and body["prompts"] == ["a", "a"]
    assert Image.open(io.BytesIO(body["images"][0])).format == "JPEG"


def test_it_asks_again_when_the_server_is_away_or_busy(capsys):
    busy = (429, b"{}", {"Retry-After": "0"})
    with fake(None, (503, b"", {}), busy, (500, b"", {}), GOOD) as (url, asked):
        reward, images = RemoteReward(url, 30), torch.rand(2, 3, 8, 8)
        states = (random.getstate(), torch.get_rng_state())
        assert reward(images, ["a", "a"])[0].tolist() == [0.5, 1.0]
        # the run draws the same numbers, however often a server was asked
        assert random.getstate() == states[0] and torch.equal(torch.get_rng_state(), states[1])
    assert len(asked) == 5 and len({body for _, body in asked}) == 1
    said = capsys.readouterr().err
    assert said.count("Asking again for up to 30 s") == 1 and said.count("answers again") == 1


def test_it_keeps_the_pause_that_the_server_asks_for():
    with fake((429, b"{}", {"Retry-After": "2"}), GOOD) as (url, _):
        started = time.monotonic()
        ask(url)
        assert time.monotonic() - started >= 2


def test_a_server_that_stays_away_stops_the_run():
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(RewardServerError, match=r"within 1 s, but it does not answer .*PATIENCE"):
        ask(f"http://127.0.0.1:{port}/compute", patience=1)
    assert 1 <= time.monotonic() - started < 5


def test_a_refusal_and_lasting_faults_stop_the_run():
    with fake((422, b'{"error": "no"}', {})) as (url, asked), pytest.raises(RewardServerError, match='422.*"no"'):
        ask(url)
    assert len(asked) == 1
    with fake((500, b"broken", {})) as (url, asked), pytest.raises(RewardServerError, match="500: broken"):
        ask(url)
    assert len(asked) == 3


def test_requests_are_concurrent_and_of_a_fixed_size(pictures, monkeypatch):
    sizes, together, most = [], threading.Semaphore(0), []

    def post(self, body, headers):
        size = len(json.loads(body)["prompt"])
        sizes.append(size)
        together.release()
        until = time.monotonic() + 5
        while together._value < 3 and time.monotonic() < until:
            time.sleep(0.01)
        most.append(together._value)
        answer = requests.Response()
        answer.status_code, answer._content = 200, json.dumps({"rewards": [1.0] * size}).encode()
        return answer

    monkeypatch.setattr(RemoteReward, "_post", post)
    RemoteReward("http://a")(pictures, ["a"] * 70)
    assert sorted(sizes) == [6, 32, 32] and most == [3, 3, 3]


def test_the_token_is_sent(monkeypatch):
    monkeypatch.setenv("HYPERALIGN_TOKEN", "secret")
    with fake(GOOD) as (url, asked):
        ask(url)
    assert asked[0][0]["Authorization"] == "Bearer secret"


class Server:
    """`hyperalign serve` in a process, on one port, however often it is started."""

    def __init__(self):
        with listen("127.0.0.1", 0) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "reward.cli", "serve", "--model", "tinyworld", "--port", str(self.port)]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL, stdout=-3)
        until = time.monotonic() + 120
        while time.monotonic() < until:
            try:
                return requests.get(f"{self.url}/health", timeout=5)
            except requests.RequestException:
                time.sleep(0.1)
        raise AssertionError("It did not start.")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def scored(self):
        try:
            text = requests.get(f"{self.url}/metrics", timeout=5).text
        except requests.RequestException:
            return 0
        lines = [line for line in text.splitlines() if line.startswith("hyperalign_pictures_total")]
        return sum(float(line.split()[-1]) for line in lines)


@pytest.fixture
def server():
    server = Server()
    server.start()
    yield server
    server.kill()


@pytest.fixture
def recipe(tmp_path, tiny_pipeline_folder, server, monkeypatch):
    (tmp_path / "toy_prompts.py").write_text(f"def prompts(): return {PROMPTS}\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"model: {tiny_pipeline_folder}\nrewards: ['{server.url}/compute=1.0']\nprompts: toy_prompts:prompts\n"
        "num_epochs: 4\nsample_num_steps: 3\nsample_batch_size: 40\nsample_num_batches_per_epoch: 2\n"
        "sample_group_size: 4\ntrain_batch_size: 40\nsave_freq: 1\nlog_with: null\ntrain_learning_rate: 0.01\n"
    )
    return path


def outcome(run):
    """What a run leaves, but for its clocks."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = [{name: value for name, value in row.items() if "seconds" not in name} for row in csv.DictReader(file)]
    return load_file(run / "pytorch_lora_weights.safetensors"), rows


def assert_the_same(one, other):
    assert one[1] == other[1]
    assert one[0].keys() == other[0].keys()
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])


def test_a_run_whose_server_is_killed_ends_as_an_undisturbed_one(server, recipe, tmp_path, capfd):
    main(["--config", str(recipe), "--output_dir", str(tmp_path / "undisturbed")])
    already = server.scored()

    def harm():
        while server.scored() < already + 100:
            time.sleep(0.005)
        server.kill()
        time.sleep(1)
        server.start()

    thread = threading.Thread(target=harm)
    thread.start()
    main(["--config", str(recipe), "--output_dir", str(tmp_path / "disturbed")])
    thread.join()
    said = capfd.readouterr().err
    assert "Asking again" in said and "answers again" in said
    whole = outcome(tmp_path / "undisturbed")
    assert_the_same(outcome(tmp_path / "disturbed"), whole)
    assert len({row["reward_mean"] for row in whole[1]}) == 4, "the run went somewhere"


def test_a_run_whose_server_stays_away_stops_and_is_resumed(server, recipe, tmp_path, monkeypatch):
    main(["--config", str(recipe), "--output_dir", str(tmp_path / "undisturbed")])
    monkeypatch.setenv("HYPERALIGN_REMOTE_PATIENCE", "0.5")
    run, already = tmp_path / "stopped", server.scored()

    def harm():
        while server.scored() < already + 100:
            time.sleep(0.005)
        server.kill()

    thread = threading.Thread(target=harm)
    thread.start()
    with pytest.raises(RewardServerError, match="within 0.5 s") as stopped:
        main(["--config", str(recipe), "--output_dir", str(run)])
    thread.join()
    assert "--resume_from" in "".join(stopped.value.__notes__)
    server.start()
    main(["--config", str(recipe), "--output_dir", str(run), "--resume_from", str(run)])
    assert_the_same(outcome(run), outcome(tmp_path / "undisturbed"))
