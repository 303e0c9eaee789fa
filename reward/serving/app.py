"""The server's routes: `app_for(reward)` is an ASGI app that any server of ASGI apps can run."""

import asyncio
import hmac
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from types import ModuleType
from typing import Any

import torch
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from reward.serving import flow_factory, flow_grpo, json_score
from reward.serving.asked import Asked, count_pixels, decode
from reward.serving.batching import Batcher
from reward.serving.limits import Budget, Limits, Refused
from reward.serving.metrics import Metrics

# A request that carries it is scored in batches of its own: its scores are the local call's to the last bit.
ALONE_HEADER = "X-HyperAlign-Batch"
_CONTRACTS = {"flow-factory": flow_factory, "flow-grpo": flow_grpo, "json": json_score}
_DECODERS = 2
# Read and decoded within a millisecond: bytes of a body, pixels of its pictures.
_SMALL_BODY, _SMALL_PICTURES = 2**15, 2**14
_WORDS = "How well pictures show their prompts, by a HyperAlign reward; higher is better. "
_NUMBERS = {"type": "array", "items": {"type": "number"}}
_BODIES = {
    "json": ("application/json", json_score.REQUEST_SCHEMA, {"scores": _NUMBERS, "explanations": {"type": "array"}}),
    "flow-factory": (
        "application/json",
        {
            "type": "object", "required": ["prompt", "image"],
            "properties": {name: {"type": "array", "items": {"type": "string"}} for name in ("prompt", "image")},
        },
        {"rewards": _NUMBERS},
    ),
    "flow-grpo": ("application/octet-stream", {"type": "string", "format": "binary"}, {"scores": _NUMBERS}),
}  # fmt: skip


def app_for(
    reward: Any, *, model: str = "", limits: Limits | None = None, batch_size: int = 32, most_wait: float = 0.005,
    token: str = "",
) -> FastAPI:  # fmt: skip
    """The app that scores with a reward.

    Args:
        reward: a `HyperAlignReward`; the app is the only one that uses it.
        model: its name, for /health.
        limits: what clients may ask; None: `Limits()`.
        batch_size, most_wait: see `Batcher`.
        token: clients must send it as `Authorization: Bearer TOKEN`, to everything but /health; empty: nobody need.

    Example:
        >>> from starlette.testclient import TestClient
        >>> with TestClient(app_for(reward)) as client:  # doctest: +SKIP
        ...     client.get("/health").json()
        {'status': 'ok', 'model': ''}
    """
    return _Server(reward, model, limits or Limits(), batch_size, most_wait, token).app


class _Server:
    def __init__(
        self, reward: Any, model: str, limits: Limits, batch_size: int, most_wait: float, token: str
    ) -> None:
        self.reward, self.model, self.limits, self._token = reward, model, limits, token.encode()
        self.metrics = Metrics()
        self.bodies = Budget(limits.held_bytes, "bytes of requests")
        self.pixels = Budget(limits.held_pixels, "pixels")
        self.batcher = Batcher(
            self._score, batch_size=batch_size, most_wait=most_wait, most_queued=limits.queued_pictures,
            begin_alone=reward.backbone.clear_cache, tell=self.metrics.batches.observe,
        )  # fmt: skip
        self.metrics.watch(
            queued_pictures=lambda: self.batcher.waiting, held_bytes=lambda: self.bodies.taken,
            held_pixels=lambda: self.pixels.taken,
        )  # fmt: skip
        self.app = FastAPI(title="HyperAlign", description=_WORDS + "Pictures are sent, never fetched.",
                           lifespan=self._lifespan)  # fmt: skip
        self.app.get("/health", summary="Whether the model is loaded.")(self._health)
        self.app.get("/metrics", summary="For Prometheus.", response_class=Response)(self._metrics)
        for name, contract in _CONTRACTS.items():
            self.app.add_api_route(
                contract.PATH, self._route(name, contract), methods=["POST"], response_class=Response,
                summary=(contract.__doc__ or "").splitlines()[0], description=contract.__doc__, name=name,
                openapi_extra=_openapi(name),
            )  # fmt: skip

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        with ThreadPoolExecutor(_DECODERS, "decoder") as self._decoders, self.batcher:
            yield

    @torch.no_grad()
    def _score(self, pictures: list[torch.Tensor], prompts: list[str]) -> list[float]:
        return self.reward(pictures, prompts).tolist()

    async def _health(self) -> dict[str, str]:
        return {"status": "ok", "model": self.model}

    async def _metrics(self, request: Request) -> Response:
        if refused := self._unauthorised(request):
            return refused
        return Response(self.metrics.text(), media_type=self.metrics.media_type)

    def _unauthorised(self, request: Request) -> Response | None:
        given = request.headers.get("authorization", "").encode()
        if not self._token or hmac.compare_digest(given, b"Bearer " + self._token):
            return None
        return _error(Refused(401, "Expected 'Authorization: Bearer TOKEN' with this server's token.", close=True))

    def _route(self, name: str, contract: ModuleType) -> Any:
        async def answer(request: Request) -> Response:
            started = time.monotonic()
            response = self._unauthorised(request)
            if response is None:
                try:
                    response = Response(await self._answer(request, name, contract), media_type=contract.MEDIA_TYPE)
                except Refused as refused:
                    response = _error(refused)
                except Exception:  # a fault of the model: the traceback is for the log, not for the client
                    self.metrics.requests.labels(name, 500).inc()
                    raise
            self.metrics.requests.labels(name, response.status_code).inc()
            self.metrics.seconds.labels(name).observe(time.monotonic() - started)
            return response

        return answer

    async def _answer(self, request: Request, name: str, contract: ModuleType) -> bytes:
        alone = request.headers.get(ALONE_HEADER, "").lower() == "alone"
        async with AsyncExitStack() as held:
            take_bytes = held.enter_context(self.bodies.share())
            take_pixels = held.enter_context(self.pixels.share())
            with self.batcher.coming():
                body = await receive(request, self.limits, take_bytes)
                asked, pictures = await self._decoded(contract, body, take_pixels)
            del body
            if asked.explain:
                return await self._explained(asked, pictures)
            scores = await self.batcher.score(pictures, asked.prompts, alone)
            self.metrics.pictures.labels(name).inc(len(scores))
            return contract.write(scores)

    async def _decoded(self, contract: ModuleType, body: bytes, take_pixels: Any) -> tuple[Asked, list[torch.Tensor]]:
        def open_all() -> tuple[Asked, int]:
            asked = contract.read(body, self.limits)
            return asked, count_pixels(asked, self.limits)

        asked, pixels = await self._in_thread(len(body) > _SMALL_BODY, open_all)
        take_pixels(pixels)
        return asked, await self._in_thread(pixels > _SMALL_PICTURES, decode, asked)

    async def _in_thread(self, worth_it: bool, function: Any, *arguments: Any) -> Any:
        """Small work is done at once: to hand it to a thread would cost more."""
        if not worth_it:
            return function(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._decoders, function, *arguments)

    async def _explained(self, asked: Asked, pictures: list[torch.Tensor]) -> bytes:
        def work() -> list[dict[str, Any]]:
            pairs = zip(pictures, asked.prompts, strict=True)
            return [json_score.explanation(self.reward, picture, prompt) for picture, prompt in pairs]

        explanations = await self.batcher.run(work, len(pictures))
        self.metrics.pictures.labels("json").inc(len(pictures))
        return json_score.write([found["score"] for found in explanations], explanations)


async def receive(request: Request, limits: Limits, take_bytes: Any) -> bytes:
    """A request's body.

    Raises:
        Refused: 413 for one that is too long, whatever it says of its length; 408 for one that comes too slowly; 400
            for one that ends too soon; 429 where the server holds too many bytes.
    """
    from starlette.requests import ClientDisconnect

    stated = request.headers.get("content-length", "0")
    too_long = Refused(413, f"Expected a body of at most {limits.body_bytes} bytes but got more.", close=True)
    if not stated.isdigit() or int(stated) > limits.body_bytes:
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(limits.receive_seconds):
            async for chunk in request.stream():
                if len(body) + len(chunk) > limits.body_bytes:
                    raise too_long
                take_bytes(len(chunk))
                body += chunk
    except TimeoutError:
        raise Refused(
            408, f"Expected the body within {limits.receive_seconds:g} s but got {len(body)} bytes of it.", close=True
        ) from None
    except ClientDisconnect:
        raise Refused(400, "Expected a whole body but the connection ended.", close=True) from None
    return bytes(body)


def _error(refused: Refused) -> Response:
    headers = {"Connection": "close"} if refused.close else {}
    if refused.retry_after is not None:
        headers["Retry-After"] = str(round(refused.retry_after))
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": refused.message}, refused.status, headers)


def _openapi(name: str) -> dict[str, Any]:
    media_type, schema, answer = _BODIES[name]
    refused = {"type": "object", "properties": {"error": {"type": "string"}}}
    errors = {"400": "No such format.", "413": "Too much in one request.", "422": "Not pictures and prompts.",
              "429": "Busy: ask again after Retry-After seconds."}  # fmt: skip
    content = {media_type: {"schema": {"type": "object", "properties": answer}}}
    return {
        "requestBody": {"required": True, "content": {media_type: {"schema": schema}}},
        "responses": {"200": {"description": "One score a picture, in their order.", "content": content}}
        | {code: {"description": text, "content": {"application/json": {"schema": refused}}}
           for code, text in errors.items()},
    }  # fmt: skip
