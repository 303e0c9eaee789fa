"""200 clients at once against `hyperalign serve`: are all answers right, how fast, how much memory?

    python benchmarks/serving/load.py --backbone tiny --pictures 1 8 32 --requests 10000 2000 500
    python benchmarks/serving/load.py --backbone ViT-B/16 --pictures 8 --requests 40 --clients 16 --scenes 64

Each request has its own pictures and prompts, and every answer is compared with the local call's. The local call scores
the same files, decoded and in batches of 32, in one process before and after; both sides have the same threads. Clients
and server share this machine's cores. Adds its rows to load.csv; nothing but 127.0.0.1 is ever asked.
"""

import argparse
import asyncio
import base64
import contextlib
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

from benchmarks.results_file import read_rows, write_rows  # noqa: E402
from benchmarks.serving.server import resident_mb, started  # noqa: E402
from reward import HyperAlignReward  # noqa: E402
from reward.cli.flags import ArgumentParser  # noqa: E402
from tinyworld import weights_path  # noqa: E402
from tinyworld.models.llava_batches import sample_scenes  # noqa: E402
from tinyworld.questions import caption  # noqa: E402

RESULTS = Path(__file__).with_name("load.csv")
COLUMNS = [
    "backbone", "clients", "pictures_a_request", "requests", "errors", "wrong", "largest_difference", "local_per_s",
    "served_per_s", "ratio", "alone_ms", "local_ms", "decode_ms", "added_ms", "server_mb_start", "server_mb_end",
    "threads", "cores",
]  # fmt: skip
_BATCH = 32
_ROUNDING = 1e-5


def files_and_prompts(size: int, count: int) -> tuple[list[bytes], list[str]]:
    """PNG files of `count` scenes, `size` pixels wide, and a prompt for each."""
    scenes = sample_scenes(np.random.default_rng(0), count, free=0)
    files = []
    for pixels in (scenes.pictures * 255).round().byte().permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(pixels).resize((size, size)).save(file, "PNG")
        files.append(file.getvalue())
    return files, [caption(objects) or "a ring" for objects in scenes.objects]


def score_files(reward: HyperAlignReward, files: Sequence[bytes], prompts: Sequence[str]) -> list[float]:
    scores: list[float] = []
    for at in range(0, len(files), _BATCH):
        pictures = [Image.open(io.BytesIO(file)) for file in files[at : at + _BATCH]]
        scores += reward(pictures, prompts[at : at + _BATCH]).tolist()
    return scores


def per_second(reward: HyperAlignReward, files: list[bytes], prompts: list[str], seconds: float) -> float:
    started_at, count, at = time.perf_counter(), 0, 0
    while time.perf_counter() - started_at < seconds:
        part = slice(at, at + _BATCH)
        count += len(score_files(reward, files[part], prompts[part]))
        at = (at + _BATCH) % len(files)
    return count / (time.perf_counter() - started_at)


class Client:
    """One connection that is kept; just enough HTTP to cost little beside the server."""

    def __init__(self, url: str) -> None:
        self.host, self.port = urlsplit(url).hostname, urlsplit(url).port

    async def __aenter__(self) -> "Client":
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        return self

    async def __aexit__(self, *_) -> None:
        self.writer.close()

    async def ask(self, message: bytes) -> tuple[int, bytes]:
        self.writer.write(message)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        return int(head.split(b" ")[1]), await self.reader.readexactly(length)


def messages(files: list[bytes], prompts: list[str], pictures: int) -> list[tuple[bytes, list[int]]]:
    """(request as it goes over the wire, which scenes are in it), one starting at each scene."""
    texts = [base64.b64encode(file).decode() for file in files]
    made = []
    for start in range(len(files)):
        scenes = [(start + step) % len(files) for step in range(pictures)]
        body = json.dumps({"images": [texts[s] for s in scenes], "prompts": [prompts[s] for s in scenes]}).encode()
        head = f"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
        made.append((head.encode() + body, scenes))
    return made


async def load(url: str, made: list, truth: list[float], count: int, clients: int) -> dict:
    """Ask `count` times; what came, compared with the truth."""
    found = {"errors": 0, "wrong": 0, "largest_difference": 0.0}
    numbers = iter(range(count))
    answered = 0

    async def work() -> None:
        nonlocal answered
        async with Client(url) as client:
            for number in numbers:
                message, scenes = made[number % len(made)]
                status, body = await client.ask(message)
                answered += 1
                if status != 200:
                    found["errors"] += 1
                    continue
                scores = json.loads(body)["scores"]
                off = max((abs(score - truth[s]) for score, s in zip(scores, scenes, strict=False)), default=9.0)
                found["largest_difference"] = max(found["largest_difference"], off)
                found["wrong"] += off > _ROUNDING or len(scores) != len(scenes)

    begun = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(clients)))
    assert answered == count
    return found | {"seconds": time.perf_counter() - begun}


async def alone(url: str, made: list, times: int) -> float:
    """Median milliseconds of one request when nobody else asks."""
    spent = []
    async with Client(url) as client:
        for number in range(times):
            begun = time.perf_counter()
            await client.ask(made[number % len(made)][0])
            spent.append(time.perf_counter() - begun)
    return 1000 * float(np.median(spent))


def one_by_one(reward, files, pictures, prompts, count: int, times: int) -> tuple[float, float]:
    """Median milliseconds of a local call of as many decoded pictures, and of decoding them."""
    spent = []
    for number in range(times):
        scenes = [(number + step) % len(files) for step in range(count)]
        begun = time.perf_counter()
        reward([pictures[s] for s in scenes], [prompts[s] for s in scenes])
        scored = time.perf_counter()
        for s in scenes:
            Image.open(io.BytesIO(files[s])).load()
        spent.append((scored - begun, time.perf_counter() - scored))
    local, decoding = 1000 * np.median(spent, axis=0)
    return float(local), float(decoding)


def measure(folder: str, reward: HyperAlignReward, arguments: argparse.Namespace, size: int) -> list[dict]:
    files, prompts = files_and_prompts(size, arguments.scenes)
    truth = score_files(reward, files, prompts)  # which also fills the cache of prompts, as the first requests do
    pictures = [Image.open(io.BytesIO(file)).convert("RGB") for file in files]
    rows = []
    for count, requests in zip(arguments.pictures, arguments.requests, strict=True):
        made = messages(files, prompts, count)
        with started("--model", folder) as (url, process):
            asyncio.run(load(url, made, truth, min(requests, len(files) // count), arguments.clients))
            before = per_second(reward, files, prompts, arguments.seconds)
            memory = [resident_mb(process.pid)]
            found = asyncio.run(load(url, made, truth, requests, arguments.clients))
            memory.append(resident_mb(process.pid))
            local = (before + per_second(reward, files, prompts, arguments.seconds)) / 2
            times = 100 if size < 100 else 15
            one = asyncio.run(alone(url, made, times))
            local_ms, decode_ms = one_by_one(reward, files, pictures, prompts, count, times)
        served = (requests - found["errors"]) * count / found.pop("seconds")
        rows.append(
            found
            | {
                "backbone": arguments.backbone, "clients": arguments.clients, "pictures_a_request": count,
                "requests": requests, "local_per_s": f"{local:.1f}", "served_per_s": f"{served:.1f}",
                "ratio": f"{served / local:.2f}", "alone_ms": f"{one:.1f}", "local_ms": f"{local_ms:.1f}",
                "decode_ms": f"{decode_ms:.1f}", "added_ms": f"{one - local_ms - decode_ms:.1f}",
                "server_mb_start": f"{memory[0]:.0f}", "server_mb_end": f"{memory[1]:.0f}",
                "largest_difference": f"{found['largest_difference']:.1e}",
                "threads": torch.get_num_threads(), "cores": len(os.sched_getaffinity(0)),
            }
        )  # fmt: skip
        print({name: rows[-1][name] for name in COLUMNS}, flush=True)
    return rows


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", choices=["tiny", "ViT-B/16"], default="tiny")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--pictures", type=int, nargs="+", default=[1, 8, 32], help="in a request")
    parser.add_argument("--requests", type=int, nargs="+", default=[10_000, 2000, 500], help="for each of --pictures")
    parser.add_argument("--scenes", type=int, default=512, help="different pictures")
    parser.add_argument("--seconds", type=float, default=5.0, help="of the local call, before and after")
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    with contextlib.ExitStack() as stack:
        if arguments.backbone == "tiny":
            folder, size = str(weights_path("hyperalign")), 48
        else:
            from benchmarks.scoring.backbones import write_open_clip

            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            source, folder, size = write_open_clip(arguments.backbone, scratch / "clip"), str(scratch / "reward"), 224
            HyperAlignReward.from_backbone(f"local-dir:{source}").save_pretrained(folder)
        rows = measure(folder, HyperAlignReward.from_pretrained(folder, device="cpu"), arguments, size)
    key = ("backbone", "clients", "pictures_a_request")
    new = {tuple(str(row[name]) for name in key) for row in rows}
    kept = [row for row in read_rows(RESULTS) if tuple(row[name] for name in key) not in new]
    write_rows(RESULTS, COLUMNS, [*kept, *rows])


if __name__ == "__main__":
    main()
