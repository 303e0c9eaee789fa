"""Clients that mean harm, or are broken: each is refused, nothing is run, and the next client is answered."""

import base64
import io
import json
import os
import pickle
import random
import socket
import struct
import time
import zlib

import numpy as np
import pytest
import requests
import torch
from PIL import Image

from reward.serving.limits import Limits
from tests.reward.conftest import build_open_clip_folder, randomise_head
from tests.reward.serving.conftest import base64_of, encoded, running

LIMITS = Limits(body_bytes=2**20, held_bytes=2**23, receive_seconds=1.0, pixels=2**20, request_pixels=2**21)
PICTURE = Image.new("RGB", (16, 16), "red")
PATHS = ("/score", "/compute", "/")


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    import warnings

    from reward import HyperAlignReward

    folder = build_open_clip_folder(tmp_path_factory.mktemp("models") / "open-clip")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reward = randomise_head(HyperAlignReward.from_backbone(f"local-dir:{folder}", adapter_hidden=8))
        with running(reward, LIMITS) as url:
            yield url


@pytest.fixture(autouse=True)
def goes_on(url):
    """After each test the server still gives the scores that it gave before, and holds nothing."""
    good = {"images": [base64_of(PICTURE)], "prompts": "a red circle"}
    before = requests.post(f"{url}/score", json=good).json()["scores"]
    yield
    assert requests.post(f"{url}/score", json=good).json()["scores"] == before
    for _ in range(100):
        text = requests.get(f"{url}/metrics").text
        if "held_bytes 0.0" in text and "held_pixels 0.0" in text and "queued_pictures 0.0" in text:
            return
        time.sleep(0.05)
    raise AssertionError(text)


def raw(url, data, wait=5.0):
    """What the server answers to bytes on a socket, until it closes or `wait` seconds have passed."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=wait) as connection:
        for part in data if isinstance(data, list) else [data]:
            if isinstance(part, float):
                time.sleep(part)
            else:
                try:
                    connection.sendall(part)
                except OSError:
                    break
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except TimeoutError:
            return answer + b" NOT CLOSED"
        except OSError:
            pass
        return answer


def head(path, length=None, more=""):
    length = f"Content-Length: {length}\r\n" if length is not None else ""
    return f"POST {path} HTTP/1.1\r\nHost: a\r\n{length}{more}\r\n".encode()


class Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pickles_of_classes_run_nothing(url, tmp_path):
    for value in (Runs(tmp_path / "ran"), np.zeros(3), torch.zeros(2), Runs, os.system, Image.new("RGB", (2, 2))):
        for body in (value, {"images": [value], "prompts": ["a"]}, {"images": [encoded(PICTURE)], "prompts": value}):
            answer = requests.post(url, data=pickle.dumps(body))
            assert answer.status_code == 400 and "nothing was run" in answer.json()["error"]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"1", b"{", b'{"images"}', b"\xff\xfe", b"[" * 200_000, b"{" * 1000 + b'"a":' * 1000,
        b"[" * 150_000 + b"]" * 150_000, b'{"images":' + b"9" * 10_000 + b"}", b"[0" + b",0" * 500_000 + b"]", b"NaN",
    ],
)  # fmt: skip
def test_json_that_is_none_or_a_bomb(url, body):
    for path in ("/score", "/compute"):
        answer = requests.post(f"{url}{path}", data=body)
        assert answer.status_code in (400, 413, 422) and answer.json()["error"]


def decoded(file):
    try:
        return base64.b64decode(file, validate=True)
    except (TypeError, ValueError):
        return file


def wrong_shapes():
    good = base64_of(PICTURE)
    yield from (
        {}, {"images": [good]}, {"prompts": ["a"]}, {"images": good, "prompts": "a"}, {"images": {}, "prompts": "a"},
        {"images": [], "prompts": []}, {"images": [good], "prompts": []}, {"images": [good], "prompts": ["a", "b"]},
        {"images": [good], "prompts": [None]}, {"images": [good], "prompts": {"a": 1}}, {"images": [1], "prompts": "a"},
        {"images": [[good]], "prompts": "a"}, {"images": ["x"], "prompts": "a"}, {"images": ["AAAA"], "prompts": "a"},
        {"images": ["http://127.0.0.1:1/a.png"], "prompts": "a"}, {"images": ["file:///etc/passwd"], "prompts": "a"},
        {"images": ["/etc/passwd"], "prompts": "a"}, {"images": [good], "prompts": "a" * 5000},
        {"images": [good] * 300, "prompts": "a"}, {"images": [good], "prompts": "\ud800"},
        {"images": [good], "prompts": 7}, {"images": [None], "prompts": ["a"]},
        {"images": [good[:60]], "prompts": "a"}, {"images": [base64.b64encode(b"GIF89a").decode()], "prompts": "a"},
    )  # fmt: skip


@pytest.mark.parametrize("body", list(wrong_shapes()))
def test_wrong_shapes(url, body):
    answer = requests.post(f"{url}/score", data=json.dumps(body))
    assert answer.status_code in (413, 422), answer.text
    assert answer.json()["error"] and "Traceback" not in answer.text
    renamed = {{"images": "image", "prompts": "prompt"}[name]: value for name, value in body.items()}
    assert requests.post(f"{url}/compute", data=json.dumps(renamed)).status_code in (413, 422)
    files = [decoded(file) for file in body.get("images", ())]
    assert requests.post(url, data=pickle.dumps(body | {"images": files})).status_code in (413, 422)


def test_fields_and_flags_of_our_contract(url):
    good = {"images": [base64_of(PICTURE)], "prompts": "a"}
    for more in ({"urls": ["http://a"]}, {"explain": 1}, {"explain": "yes"}, {"explain": True, "prompts": "  "}):
        assert requests.post(f"{url}/score", json=good | more).status_code == 422
    many = {"images": good["images"] * 9, "prompts": "a", "explain": True}
    assert requests.post(f"{url}/score", json=many).status_code == 413


def png_bomb(width, height):
    """A small file that unpacks to width x height."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes(min((width // 8 + 1) * height, 10**7)), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(2000, 2000), (100_000, 10), (2**31 - 1, 2**31 - 1), (60_000, 60_000)])
def test_pictures_that_unpack_to_too_much(url, size):
    file = base64.b64encode(png_bomb(*size)).decode()
    answer = requests.post(f"{url}/score", json={"images": [file], "prompts": "a"})
    assert answer.status_code in (413, 422)


def test_many_pictures_that_unpack_to_too_much_together(url):
    file = base64.b64encode(png_bomb(1000, 1000)).decode()
    answer = requests.post(f"{url}/score", json={"images": [file] * 3, "prompts": "a"})
    assert answer.status_code == 413 and "pixels in a request" in answer.json()["error"]


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP", "PPM", "EPS", "PDF", "ICO"])
def test_decoders_that_clients_do_not_need_are_out_of_reach(url, kind):
    file = base64.b64encode(encoded(PICTURE, kind)).decode()
    assert requests.post(f"{url}/score", json={"images": [file], "prompts": "a"}).status_code == 422


@pytest.mark.parametrize("path", PATHS)
def test_bodies_without_end(url, path):
    stated = raw(url, head(path, 2**40) + b"x" * 1000)
    assert b" 413 " in stated.split(b"\r\n")[0] and b"NOT CLOSED" not in stated
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    endless = raw(url, [head(path, more="Transfer-Encoding: chunked\r\n")] + [chunk] * 200)
    assert (b" 413 " in endless or endless == b"") and b"NOT CLOSED" not in endless
    for length in ("-1", "1e3", "0x10", "99999999999999999999999999"):
        assert raw(url, head(path, length) + b"{}").split(b" ")[1:2] in ([b"400"], [b"413"])


@pytest.mark.parametrize("path", PATHS)
def test_slow_and_broken_senders(url, path):
    started = time.monotonic()
    slow = raw(url, [head(path, 1000), b"{", 0.3, b" "])
    assert b" 408 " in slow and b"NOT CLOSED" not in slow and time.monotonic() - started < 4
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as gone:  # a truncated body
        gone.sendall(head(path, 1000) + b'{"images"')


def test_a_head_that_never_ends(url):
    for part in (b"", b"POST /score HT", b"POST /score HTTP/1.1\r\nHost: a\r\nX: "):
        started = time.monotonic()
        assert b"NOT CLOSED" not in raw(url, part)
        assert 0.5 < time.monotonic() - started < 4
    long = raw(url, [b"POST /score HTTP/1.1\r\n"] + [b"X: " + b"a" * 60_000 + b"\r\n"] * 20)
    assert b"NOT CLOSED" not in long and b" 200 " not in long


@pytest.mark.parametrize("data", [b"\x00" * 100, b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n", b"\x16\x03\x01aaaaaa"])
def test_what_is_not_http(url, data):
    assert b" 200 " not in raw(url, data)


def test_slow_senders_do_not_keep_others_waiting(url):
    host, port = url.removeprefix("http://").split(":")
    slow = [socket.create_connection((host, int(port))) for _ in range(100)]
    for connection in slow:
        connection.sendall(head("/score", 1000) + b"{")
    started = time.monotonic()
    body = {"images": [base64_of(PICTURE)], "prompts": "a red circle"}
    assert requests.post(f"{url}/score", json=body).ok and time.monotonic() - started < 0.9
    for connection in slow:
        connection.close()


def test_fuzzed_requests(url):
    """Some hundred; `benchmarks/serving/fuzz.py` sends as many as it is told to."""
    from benchmarks.serving.fuzz import fuzz

    statuses = fuzz(url, count=400, seed=0)
    assert set(statuses) <= {200, 400, 413, 422} and sum(statuses.values()) == 400 and statuses[422] and statuses[400]


def test_what_is_fuzzed_can_be_good():
    """Else the fuzzer would only test the first check that it meets."""
    from benchmarks.serving.fuzz import seeds

    for path, body in seeds():
        assert path in PATHS and isinstance(body, bytes)
    assert Image.open(io.BytesIO(encoded(PICTURE))).size == (16, 16) and random
