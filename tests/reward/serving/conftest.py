"""A server of the tiny reward in a thread, on a free port of this machine."""

import base64
import io
import threading
import time
from contextlib import contextmanager

import pytest
import requests
from torchvision.transforms.functional import to_pil_image

from reward.serving.app import app_for
from reward.serving.limits import Limits
from reward.serving.server import listen, server_of


@contextmanager
def running(reward, limits=None, **options):
    """The URL of a server that runs until the end of the block."""
    limits = limits or Limits()
    listening = listen("127.0.0.1", 0)
    server = server_of(app_for(reward, limits=limits, **options), limits)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        until = time.monotonic() + 30
        while not server.started and time.monotonic() < until:
            time.sleep(0.01)
        assert requests.get(f"{url}/health", timeout=10).ok
        yield url
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
        assert not thread.is_alive()


def encoded(image, kind="PNG", **options):
    """A picture (3,H,W) in [0,1], or a PIL image, as the bytes of a file."""
    buffer = io.BytesIO()
    (image if hasattr(image, "save") else to_pil_image(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def base64_of(image, kind="PNG"):
    return base64.b64encode(encoded(image, kind)).decode()


@pytest.fixture
def serve():
    return running


@pytest.fixture
def url(reward):
    with running(reward) as url:
        yield url
