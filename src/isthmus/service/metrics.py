"""Figures of a node in the text form of Prometheus: jobs by state, bytes by partner, requests and how long they took."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isthmus.base.clock import Clock
from isthmus.service.node import Node
from isthmus.store.records import STATES

TEXT = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Metrics:
    """One node's figures. Nothing is named by what a caller sends: routes go by their template, methods are a closed list."""

    def __init__(self, node: Node) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "isthmus_http_requests",
            "Requests by method, route and status.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self.seconds = Histogram(
            "isthmus_http_request_seconds",
            "From a request to the first byte of its answer.",
            ("route",),
            buckets=_BOUNDS_S,
            registry=self._registry,
        )
        self._registry.register(_OfNode(node))

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _OfNode(Collector):
    """What the store and the link know, read when it is asked for."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def collect(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("isthmus_jobs", "Jobs by state.", labels=("state",))
        counts = self._node.store.count_jobs()
        for state in STATES:
            jobs.add_metric((state,), counts.get(state, 0))
        yield jobs
        carried = CounterMetricFamily(
            "isthmus_link_bytes",
            "Bytes by partner and direction since the start.",
            labels=("partner", "direction"),
        )
        up = GaugeMetricFamily(
            "isthmus_link_connected", "1 while a partner is connected.", labels=("partner",)
        )
        for partner in self._node.store.partners():
            if partner.confirmed:
                state_of = self._node.link.state(partner.name)
                carried.add_metric((partner.name, "sent"), state_of.sent_bytes)
                carried.add_metric((partner.name, "received"), state_of.received_bytes)
                up.add_metric((partner.name,), int(state_of.connected))
        yield carried
        yield up


class Counted:
    """Counts every request, those that the gate refuses as well (their route is `none`)."""

    def __init__(self, app: ASGIApp, metrics: Metrics, clock: Clock) -> None:
        self._app = app
        self._metrics = metrics
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s = self._clock.monotonic_s()
        answered = False

        async def count(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start" and not answered:
                answered = True
                self._count(scope, str(message["status"]), began_s)
            await send(message)

        try:
            await self._app(scope, receive, count)
        finally:
            if not answered:
                self._count(scope, "500", began_s)

    def _count(self, scope: Scope, status: str, began_s: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = template_of(scope)
        self._metrics.requests.labels(method, route, status).inc()
        self._metrics.seconds.labels(route).observe(self._clock.monotonic_s() - began_s)


def template_of(scope: Scope) -> str:
    """The route as it is declared, with `{names}` in place of what stood in the path."""
    return str(getattr(scope.get("route"), "path", "none"))
