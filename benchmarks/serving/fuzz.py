"""Requests made from good ones by random changes: `python benchmarks/serving/fuzz.py --count 100000 --seed 0`.

Starts a server of its own on this machine, sends them from several threads, and ends with an error when an answer is
neither scores nor a refusal (4xx), when the server ends, or when a good request in between gets other scores than at
the start. Nothing but 127.0.0.1 is ever asked.
"""

import argparse
import base64
import io
import json
import pickle
import random
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import requests  # noqa: E402
from PIL import Image  # noqa: E402

from benchmarks.results_file import write_rows  # noqa: E402
from benchmarks.serving.server import resident_mb, started  # noqa: E402
from reward.cli.flags import ArgumentParser  # noqa: E402

_PIECES = [
    b"", b"\x00", b"\xff" * 8, b"[", b"{", b"]", b"}", b'"', b",", b":", b"null", b"1e999", b"-1", b"true", b"\\ud800",
    b"cos\nsystem\n", b"\x93", b"R", b"(", b".", b"\x85", b"2", b"h\x00", b"\x8e" + b"\xff" * 8, b"http://127.0.0.1/",
    b"9" * 400, b"A" * 300, b"data:image/png;base64,",
]  # fmt: skip


def seeds() -> list[tuple[str, bytes]]:
    """(path, body) of good requests in every contract."""
    files = []
    for kind, size in (("PNG", (16, 16)), ("JPEG", (24, 16)), ("WEBP", (16, 24))):
        buffer = io.BytesIO()
        Image.new("RGB", size, "red").save(buffer, kind)
        files.append(buffer.getvalue())
    texts = [base64.b64encode(file).decode() for file in files]
    prompts = ["a red ring", "two blue squares", "a red ring left of a blue square"]
    return [
        ("/score", json.dumps({"images": texts, "prompts": prompts, "explain": False}).encode()),
        ("/score", json.dumps({"images": texts[:1], "prompts": prompts[0]}).encode()),
        ("/compute", json.dumps({"image": texts, "prompt": prompts, "video": None, "kwargs": {"a": 1}}).encode()),
        ("/", pickle.dumps({"images": files, "prompts": prompts, "metadata": {"a": [1, 2.5]}})),
        ("/", pickle.dumps({"images": tuple(files), "prompts": tuple(prompts)}, 3)),
    ]


def changed(body: bytes, draw: random.Random) -> bytes:
    """A body with bytes changed, cut out, doubled or put in; or with a picture inside it changed."""
    data = bytearray(body)
    for _ in range(draw.choice((1, 1, 2, 3, 8))):
        at = draw.randrange(len(data) + 1)
        kind = draw.randrange(6)
        if kind == 0 and data:
            data[at % len(data)] = draw.randrange(256)
        elif kind == 1:
            del data[at : at + draw.choice((1, 4, 40, 400))]
        elif kind == 2:
            data[at:at] = draw.choice(_PIECES)
        elif kind == 3:
            data[at:at] = data[at : at + draw.choice((4, 40, 400))]
        elif kind == 4:
            del data[at:]
        else:
            data[at:at] = draw.randbytes(draw.choice((1, 8, 64)))
    return bytes(data)


def _sent(url: str, count: int, seed: int) -> Iterator[int]:
    draw, good, session = random.Random(seed), seeds(), requests.Session()
    for _ in range(count):
        path, body = draw.choice(good)
        if draw.random() < 0.1:
            path = draw.choice(good)[0]
        answer = session.post(url + path, data=changed(body, draw), timeout=60)
        if answer.status_code != 200 and "error" not in answer.json():
            raise AssertionError(f"Expected scores or a refusal, got {answer.status_code}: {answer.text[:200]}")
        yield answer.status_code


def fuzz(url: str, count: int, seed: int, threads: int = 4) -> Counter:
    """Send `count` changed requests; returns how often each status came."""
    shares = [count // threads + (number < count % threads) for number in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        parts = pool.map(lambda at: Counter(_sent(url, shares[at], seed * threads + at)), range(threads))
        return sum(parts, Counter())


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    path, body = seeds()[0]
    rows, done = [], 0
    with started() as (url, process):
        good = requests.post(url + path, data=body).content
        while done < arguments.count:
            part = min(5000, arguments.count - done)
            statuses = fuzz(url, part, arguments.seed + done)
            done += part
            if requests.post(url + path, data=body).content != good:
                raise AssertionError("Expected the same scores as at the start.")
            memory = resident_mb(process.pid)
            rows.append({"requests": part, "server_mb": memory} | {str(k): v for k, v in statuses.items()})
            print(done, dict(statuses), f"{memory:.0f} MB", flush=True)
    columns = ["requests", "200", "400", "413", "422", "429", "500", "server_mb"]
    write_rows(Path(__file__).with_name("fuzz.csv"), columns, [{c: 0 for c in columns} | row for row in rows])


if __name__ == "__main__":
    main()
