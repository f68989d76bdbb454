"""What is counted: for Prometheus, in a registry of its own."""

import time
from typing import final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Counting", "Metrics"]


@final
class Metrics:
    """The counters of one service."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("mohs_requests", "Requests answered.", ("route", "status"), registry=registry)
        self.answer_s = Histogram("mohs_answer_seconds", "Time to an answer.", ("route",), registry=registry)
        self.refused = Counter("mohs_refused", "Requests and connections refused.", ("reason",), registry=registry)
        self.under_way = Gauge("mohs_queries_under_way", "Queries being answered.", registry=registry)
        self.batch_size = Histogram(
            "mohs_batch_pictures", "Pictures embedded together.", buckets=(1, 2, 4, 8, 16, 32), registry=registry
        )
        self.unknown = Counter("mohs_unknown", "Queries answered 'unknown'.", registry=registry)
        self.items = Gauge("mohs_items", "Items in the index.", registry=registry)
        self.version = Gauge("mohs_index_version", "Version of the index.", registry=registry)
        self.reloads = Counter("mohs_reloads", "New versions taken up.", registry=registry)
        self.failed_reloads = Counter("mohs_failed_reloads", "New versions that could not be read.", registry=registry)
        self.feedback = Counter("mohs_feedback", "Verdicts stored.", ("verdict",), registry=registry)

    def as_text(self) -> bytes:
        """Return all of them in Prometheus's text format."""
        return generate_latest(self._registry)


@final
class Counting:
    """ASGI middleware: counts answers and their time by route, never by address, of which there is no end."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have a request answered, and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), "500"

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, send_counted)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requests.labels(route, status).inc()
            self._metrics.answer_s.labels(route).observe(time.perf_counter() - began)
