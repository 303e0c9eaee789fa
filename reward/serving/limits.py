"""What a client may ask of the server, and how a request that asks for more is refused."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from reward.images.reading import MOST_PIXELS


class Refused(Exception):
    """A request that gets no scores.

    Args:
        status: of the HTTP answer.
        message: what was expected, what came, what to do.
        retry_after: seconds after which to ask again, where that helps.
        close: end the connection, because the rest of the body is not read.
    """

    def __init__(self, status: int, message: str, retry_after: float | None = None, close: bool = False) -> None:
        super().__init__(message)
        self.status, self.message, self.close = status, message, close
        self.retry_after = retry_after


@dataclass(frozen=True)
class Limits:
    """Bounds on one request, and on all that are held at a time. Beyond the first 413 or 422, beyond the second 429.

    Attributes:
        body_bytes, held_bytes: bodies as they came: of one request, of all.
        pictures, queued_pictures: in one request; waiting for the model.
        pixels, request_pixels, held_pixels: width x height of one picture; of a request's; of all that are decoded.
        prompt_characters: of one prompt.
        explained_pictures: in one request that asks for explanations, which cost much.
        receive_seconds: for a request's head, and again for its body.
        connections: open at a time.
    """

    body_bytes: int = 64 * 2**20
    held_bytes: int = 512 * 2**20
    pictures: int = 256
    queued_pictures: int = 16384
    pixels: int = MOST_PIXELS
    request_pixels: int = 2**27
    held_pixels: int = 2**29
    prompt_characters: int = 4096
    explained_pictures: int = 8
    receive_seconds: float = 30.0
    connections: int = 1024


@dataclass
class Budget:
    """An amount that all requests share.

    Example:
        >>> budget = Budget(100, "bytes")
        >>> with budget.share() as take:
        ...     take(60)
        >>> budget.taken
        0
    """

    most: int
    what: str
    taken: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def share(self) -> Iterator:
        """A function that takes from the budget; what one request took is given back at the end.

        Raises:
            Refused: 429, where more is asked for than is left.
        """
        own = 0

        def take(amount: int) -> None:
            nonlocal own
            with self._lock:
                if self.taken + amount > self.most:
                    raise Refused(
                        429, f"The server is busy: it holds {self.taken} of {self.most} {self.what}. Ask later, or "
                        "send less at a time.", retry_after=1, close=True,
                    )  # fmt: skip
                self.taken += amount
                own += amount

        try:
            yield take
        finally:
            with self._lock:
                self.taken -= own
