"""A reward on another machine, or in another process: `http://HOST:PORT/compute` and `flow-grpo+http://HOST:PORT`.

The first is Flow-Factory's contract (JSON, PNG in base64), the second that of flow_grpo and VeRL-Omni (pickles, JPEG);
`hyperalign serve` answers both. What a server sends back is read as plain data: it cannot run anything here.
"""

import base64
import io
import json
import math
import os
import pickle
import queue
import random
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import requests
import torch
from PIL import Image

from reward.parallel.background import BackgroundThreads
from reward.serving import plain_pickle

SCHEMES = ("http://", "https://", "flow-grpo+http://", "flow-grpo+https://")
# Seconds that a server may stay away before the run ends; a token that it may ask for.
PATIENCE_VARIABLE, TOKEN_VARIABLE = "HYPERALIGN_REMOTE_PATIENCE", "HYPERALIGN_TOKEN"
PATIENCE = 600.0
# Always as many, whatever answers first: what the server scores together must not depend on time.
_PICTURES_A_REQUEST = 32
_REQUESTS_AT_A_TIME = 4
_TIMEOUT = (10.0, 120.0)  # seconds: to connect, to answer
_MOST_PAUSE = 30.0
_AGAIN = {408, 429, 500, 502, 503, 504}
_MOST_FAULTS = 3  # answers of status 500: the server is there and fails
_JPEG_QUALITY = 95


class RewardServerError(RuntimeError):
    """A reward server stayed away, refused, or answered something else than scores."""


class RemoteReward:
    """A reward that asks a server.

    Pictures are sent with 8 bits a channel, 32 a request, four requests at a time. Where the server does not answer or
    is busy, it is asked again, with growing pauses, until it has stayed away for `patience` seconds: a run waits for a
    server that comes back and goes on as if nothing had been. The requests ask `hyperalign serve` not to mix them with
    others', so that the same pictures get the same scores to the last bit.

    Args:
        url: of the contract's route, with a scheme of `SCHEMES`.
        patience: seconds; None: the environment variable HYPERALIGN_REMOTE_PATIENCE, or 600.

    Raises:
        ValueError: no such URL.

    Example:
        >>> reward = RemoteReward("http://127.0.0.1:8000/compute")
        >>> reward(torch.rand(4, 3, 64, 64), ["a red ring"] * 4, ({},) * 4)[0].shape  # doctest: +SKIP
        torch.Size([4])
    """

    def __init__(self, url: str, patience: float | None = None) -> None:
        self.pickled = url.startswith("flow-grpo+")
        self.url = url.removeprefix("flow-grpo+")
        parts = urlsplit(self.url)
        if not url.startswith(SCHEMES) or not parts.hostname:
            raise ValueError(f"rewards: expected a URL such as http://127.0.0.1:8000/compute, got {url!r}.")
        place = parts.netloc.rpartition("@")[2] + parts.path.rstrip("/").removesuffix("/compute")
        self.name = ("flow-grpo_" if self.pickled else "") + place.replace(":", "_").replace("/", "_")
        self.patience = float(os.environ.get(PATIENCE_VARIABLE, PATIENCE)) if patience is None else patience
        self._sessions: queue.LifoQueue = queue.LifoQueue()
        # its own: the run's random numbers must not depend on how often a server was asked
        self._jitter = random.Random()
        self._away, self._lock = False, threading.Lock()

    def __call__(self, images: torch.Tensor, prompts: Sequence[str], metadata: Any = ()) -> tuple[torch.Tensor, dict]:
        """Scores of pictures (B,3,H,W) in [0,1].

        Returns:
            (B,) float32, and {}.

        Raises:
            RewardServerError: see there.
        """
        pixels = (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        with BackgroundThreads(_REQUESTS_AT_A_TIME) as threads:
            parts = [
                threads.submit(self._ask, pixels[at : at + _PICTURES_A_REQUEST], prompts[at : at + _PICTURES_A_REQUEST])
                for at in range(0, len(pixels), _PICTURES_A_REQUEST)
            ]
            scores = [score for part in parts for score in part.result()]
        return torch.tensor(scores, dtype=torch.float32, device=images.device), {}

    def _ask(self, pixels: Any, prompts: Sequence[str]) -> list[float]:
        body, kind = self._body(pixels, list(prompts))
        headers = {"Content-Type": kind, "X-HyperAlign-Batch": "alone"}
        if token := os.environ.get(TOKEN_VARIABLE):
            headers["Authorization"] = f"Bearer {token}"
        until, pause, faults = time.monotonic() + self.patience, 0.25, 0
        while True:
            try:
                answer = self._post(body, headers)
            except requests.RequestException as error:
                problem, wanted = f"it does not answer ({_short(error)})", 0.0
            else:
                if answer.status_code == 200:
                    self._tell_back()
                    return self._scores(answer.content, len(prompts))
                problem = f"it answers {answer.status_code}: {answer.text[:300]}"
                faults += answer.status_code == 500
                if answer.status_code not in _AGAIN or faults >= _MOST_FAULTS:
                    raise RewardServerError(f"Expected scores of the reward server at {self.url}, but {problem}.")
                wanted = _seconds(answer.headers.get("Retry-After"))
            left = until - time.monotonic()
            if left <= 0:
                raise RewardServerError(
                    f"Expected scores of the reward server at {self.url} within {self.patience:g} s, but {problem}. "
                    f"Start it again and go on from the checkpoint; {PATIENCE_VARIABLE} sets how long a run waits."
                )
            self._tell_away(problem)
            time.sleep(min(left, max(wanted, pause * self._jitter.uniform(0.8, 1.2))))
            pause = min(2 * pause, _MOST_PAUSE)

    def _post(self, body: bytes, headers: dict[str, str]) -> requests.Response:
        try:
            session = self._sessions.get_nowait()
        except queue.Empty:
            session = requests.Session()
            session.trust_env = False  # no proxy and no password file between a trainer and its reward
        answer = session.post(self.url, data=body, headers=headers, timeout=_TIMEOUT, allow_redirects=False)
        self._sessions.put(session)
        return answer

    def _body(self, pixels: Any, prompts: list[str]) -> tuple[bytes, str]:
        if self.pickled:
            files = [_encoded(picture, "JPEG", quality=_JPEG_QUALITY) for picture in pixels]
            return pickle.dumps({"images": files, "prompts": prompts, "metadata": {}}), "application/octet-stream"
        texts = [base64.b64encode(_encoded(picture, "PNG")).decode() for picture in pixels]
        return json.dumps({"prompt": prompts, "image": texts}).encode(), "application/json"

    def _scores(self, content: bytes, count: int) -> list[float]:
        try:
            value = plain_pickle.loads(content) if self.pickled else json.loads(content)
            names = ("scores", "outputs") if self.pickled else ("rewards",)
            scores = next(value[name] for name in names if name in value)
            if len(scores) != count or any(type(score) not in (int, float) for score in scores):
                raise ValueError(f"got {str(scores)[:200]}")
        except (ValueError, TypeError, KeyError, StopIteration, RecursionError) as error:
            said = f"{type(error).__name__}: {error}" if str(error) else f"got {content[:200]!r}"
            raise RewardServerError(
                f"Expected {count} numbers of the reward server at {self.url}, but its answer holds something else "
                f"({said}). A flow_grpo server needs flow-grpo+http://, another one http://."
            ) from error
        return [float(score) for score in scores]

    def _tell_away(self, problem: str) -> None:
        with self._lock:
            if not self._away:
                self._away = True
                said = f"Reward server {self.url}: {problem}. Asking again for up to {self.patience:g} s."
                print(said, file=sys.stderr, flush=True)

    def _tell_back(self) -> None:
        with self._lock:
            if self._away:
                self._away = False
                print(f"Reward server {self.url}: it answers again.", file=sys.stderr, flush=True)


def _encoded(pixels: Any, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def _seconds(text: str | None) -> float:
    try:
        seconds = float(text or 0)
    except ValueError:
        return 0.0
    return min(seconds, _MOST_PAUSE) if math.isfinite(seconds) else 0.0


def _short(error: Exception) -> str:
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    reason = getattr(error, "reason", None) or error
    return f"{type(reason).__name__}: {str(reason)[-160:]}"
