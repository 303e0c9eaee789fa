import asyncio
import threading
import time

import pytest
import torch

from reward.serving.batching import Batcher
from reward.serving.limits import Refused


class Model:
    """Scores a picture (3,1,1) as its number; remembers its batches; can be held up, and fails for numbers below 0."""

    def __init__(self):
        self.batches = []
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, pictures, prompts):
        self.go_on.wait(10)
        numbers = [float(picture[0, 0, 0]) for picture in pictures]
        self.batches.append(numbers)
        assert prompts == [str(int(number)) for number in numbers]
        if min(numbers) < 0:
            raise ValueError("a picture that the model cannot take")
        return numbers


def asked(*numbers):
    return [torch.full((3, 1, 1), float(n)) for n in numbers], [str(n) for n in numbers]


async def until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("It never came true.")


def test_every_request_gets_its_own_scores_and_batches_are_shared():
    model = Model()

    async def run():
        with Batcher(model, batch_size=32) as batcher:
            jobs = [batcher.score(*asked(*range(10 * i, 10 * i + 1 + i % 5))) for i in range(200)]
            return await asyncio.gather(*jobs), batcher.waiting

    answers, waiting = asyncio.run(run())
    assert answers == [[float(n) for n in range(10 * i, 10 * i + 1 + i % 5)] for i in range(200)]
    assert waiting == 0 and max(map(len, model.batches)) <= 32
    assert len(model.batches) < 40, "600 pictures in batches of up to 32"


def test_a_long_request_is_split():
    model = Model()

    async def run():
        with Batcher(model, batch_size=8) as batcher:
            return await batcher.score(*asked(*range(20)))

    assert asyncio.run(run()) == [float(n) for n in range(20)]
    assert list(map(len, model.batches)) == [8, 8, 4]


def test_what_asks_to_be_alone_is_alone_and_starts_afresh():
    model, begun = Model(), []

    async def run():
        model.go_on.clear()
        with Batcher(model, begin_alone=lambda: begun.append(len(model.batches))) as batcher:
            jobs = [asyncio.create_task(batcher.score(*asked(n), alone=n == 2)) for n in range(5)]
            await until(lambda: batcher.waiting == 5)
            model.go_on.set()
            await asyncio.gather(*jobs)

    asyncio.run(run())
    assert [2.0] in model.batches and begun == [model.batches.index([2.0])]
    assert sorted(n for batch in model.batches for n in batch) == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_one_requests_fault_is_its_own():
    model = Model()

    async def run():
        model.go_on.clear()
        with Batcher(model) as batcher:
            jobs = [asyncio.create_task(batcher.score(*asked(n))) for n in (1, 2, -3, 4)]
            await until(lambda: batcher.waiting == 4)
            model.go_on.set()
            return await asyncio.gather(*jobs, return_exceptions=True)

    one, two, fault, four = asyncio.run(run())
    assert (one, two, four) == ([1.0], [2.0], [4.0]) and isinstance(fault, ValueError)


def test_a_full_queue_refuses_and_says_when_to_ask_again():
    model = Model()

    async def run():
        model.go_on.clear()
        with Batcher(model, most_queued=4) as batcher:
            first = asyncio.create_task(batcher.score(*asked(1, 2, 3)))
            await until(lambda: batcher.waiting == 3)
            with pytest.raises(Refused, match="busy: 3 pictures wait and 4 may") as refused:
                await batcher.score(*asked(4, 5))
            fits = asyncio.create_task(batcher.score(*asked(6)))
            await until(lambda: batcher.waiting == 4)
            model.go_on.set()
            return await first, await fits, refused.value

    first, fits, refused = asyncio.run(run())
    assert first == [1.0, 2.0, 3.0] and fits == [6.0]
    assert refused.status == 429 and refused.retry_after >= 1


def test_what_was_accepted_is_answered_when_the_batcher_closes():
    model = Model()

    async def run():
        model.go_on.clear()
        batcher = Batcher(model, batch_size=2)
        with batcher:
            jobs = [asyncio.create_task(batcher.score(*asked(n))) for n in range(9)]
            await until(lambda: batcher.waiting == 9)
            threading.Timer(0.1, model.go_on.set).start()
        with pytest.raises(Refused):
            await batcher.score(*asked(1))
        return await asyncio.gather(*jobs)

    assert asyncio.run(run()) == [[float(n)] for n in range(9)]


def test_a_lone_request_does_not_wait():
    async def run():
        with Batcher(Model(), most_wait=5) as batcher:
            started = time.monotonic()
            await batcher.score(*asked(1))
            return time.monotonic() - started

    assert asyncio.run(run()) < 1


def test_an_idle_model_waits_for_what_is_coming_but_not_for_ever():
    model = Model()

    async def run():
        with Batcher(model, most_wait=5) as batcher:
            with batcher.coming():
                first = asyncio.create_task(batcher.score(*asked(1)))
                await until(lambda: batcher.waiting == 1)
                await asyncio.sleep(0.05)
                assert model.batches == []
                second = asyncio.create_task(batcher.score(*asked(2)))
                await until(lambda: batcher.waiting == 2)
            await asyncio.gather(first, second)
        with Batcher(model, most_wait=0.05) as batcher, batcher.coming():
            started = time.monotonic()
            await batcher.score(*asked(3))
            return time.monotonic() - started

    waited = asyncio.run(run())
    assert model.batches == [[1.0, 2.0], [3.0]] and 0.04 < waited < 2


def test_a_client_that_has_gone_hurts_nobody():
    model = Model()

    async def run():
        model.go_on.clear()
        with Batcher(model) as batcher:
            gone = asyncio.create_task(batcher.score(*asked(1)))
            await until(lambda: batcher.waiting == 1)
            gone.cancel()
            stays = asyncio.create_task(batcher.score(*asked(2)))
            await until(lambda: batcher.waiting == 2)
            model.go_on.set()
            return await stays

    assert asyncio.run(run()) == [2.0]
