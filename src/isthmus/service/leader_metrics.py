"""Figures of a leader in the text form of Prometheus, and whether it is well: on loopback, and nothing of single devices."""

from __future__ import annotations

from collections.abc import Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from isthmus.base.errors import LocalError
from isthmus.fleet.leader import Leader
from isthmus.fleet.rounds import ANSWERING, COLLECTING, FORMING, LOOKING
from isthmus.store.fleet_views import FleetViews

_TEXT = "text/plain; version=0.0.4; charset=utf-8"
PHASES = (COLLECTING, LOOKING, FORMING, ANSWERING)


class LeaderMetrics:
    """`/metrics` and `/health` of one leader."""

    def __init__(self, leader: Leader) -> None:
        self._rows = leader.rows
        self._registry = CollectorRegistry()
        self._registry.register(_OfLeader(leader))

    def runner(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/metrics", self._figures)
        app.router.add_get("/health", self._health)
        return web.AppRunner(app, access_log=None)

    async def _figures(self, request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": _TEXT})

    async def _health(self, request: web.Request) -> web.Response:
        try:
            self._rows.version()
        except LocalError:
            return web.Response(status=503, text="not ready\n")
        return web.Response(text="ok\n")


class _OfLeader(Collector):
    """What the listener counts and the rows say, read when it is asked for."""

    def __init__(self, leader: Leader) -> None:
        self._leader = leader

    def collect(self) -> Iterator[Metric]:
        counts = self._leader.server.counts
        for name, words, value in (
            ("check_ins", "Check-ins since the start.", counts.check_ins),
            ("reports", "Uploads of reports since the start.", counts.reports),
            ("refusals", "Requests of devices that were refused since the start.", counts.refused),
        ):
            yield CounterMetricFamily(f"isthmus_leader_{name}", words, value=value)
        rows = self._leader.rows
        views = FleetViews(rows)
        devices = GaugeMetricFamily("isthmus_leader_devices", "Enrolled devices.", labels=("fleet",))
        stopped = GaugeMetricFamily(
            "isthmus_leader_stopped", "1 while the kill switch is on.", labels=("fleet",)
        )
        open_rounds = GaugeMetricFamily(
            "isthmus_leader_rounds", "Rounds under way by phase.", labels=("fleet", "phase")
        )
        for population in rows.populations():
            devices.add_metric((population.name,), rows.count_devices(population.name))
            stopped.add_metric((population.name,), int(population.stopped))
            phases = views.open_rounds(population.name)
            for phase in PHASES:
                open_rounds.add_metric((population.name, phase), phases.get(phase, 0))
        yield from (devices, stopped, open_rounds)
