"""What the server counts, for Prometheus."""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of one server.

    Attributes:
        requests: by contract and HTTP status.
        pictures: scored ones, by contract.
        seconds: from the request's head to its answer, by contract.
        batches: pictures that the model got at a time.
    """

    media_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        name = "hyperalign_"
        self.requests = Counter(name + "requests", "Requests.", ["contract", "status"], registry=registry)
        self.pictures = Counter(name + "pictures", "Pictures that were scored.", ["contract"], registry=registry)
        self.seconds = Histogram(
            name + "request_seconds", "From a request's head to its answer.", ["contract"], buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self.batches = Histogram(
            name + "batch_pictures", "Pictures that the model got at a time.", buckets=_SIZES, registry=registry
        )

    def watch(self, **amounts) -> None:
        """Gauges that are read when they are asked for: name -> function without arguments."""
        self._registry.register(_Gauges(amounts))

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self._registry)


class _Gauges:
    def __init__(self, amounts) -> None:
        self._amounts = amounts

    def collect(self):
        for name, amount in self._amounts.items():
            yield GaugeMetricFamily(f"hyperalign_{name}", f"{name.replace('_', ' ').capitalize()} now.", value=amount())
