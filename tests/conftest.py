"""Prints the seconds of each test layer beside its budget. A budget informs; no test depends on the clock."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

# Seconds on two cores. A layer is a folder under tests/.
BUDGETS_S = {
    "base": 20,
    "wire": 60,
    "crypto": 90,
    "table": 40,
    "learn": 60,
    "protocols": 240,
    "attacks": 90,
    "store": 60,
    "jobs": 60,
    "fleet": 120,
    "device": 150,
    "privacy": 60,
    "service": 90,
    "client": 30,
    "cli": 60,
    "report": 30,
    "scenarios": 30,
    "house": 120,
    "mutants": 60,
    "e2e": 240,
    "deploy": 90,
}
SLOWEST = 10

# Whole nodes and whole jobs: `./run test fast` leaves them out, as it does every test marked slow.
WHOLE_JOBS = (
    "tests/e2e/",
    "tests/jobs/test_runner.py",
    "tests/service/test_nodes.py",
    "tests/cli/test_cli.py::test_two_institutions_join_and_run_a_job",
    "tests/cli/test_try.py::test_own_files_become_a_report_and_scores",
)


class LayerBudgets:
    """Adds up set-up, call and tear-down of every test, by layer and by test."""

    def __init__(self) -> None:
        self.layers: dict[str, float] = defaultdict(float)
        self.tests: dict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        parts = Path(report.nodeid.partition("::")[0]).parts
        layer = parts[1] if len(parts) > 2 and parts[0] == "tests" else "(other)"
        self.layers[layer] += report.duration
        self.tests[report.nodeid] += report.duration

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        line = terminalreporter.write_line
        if self.layers:
            terminalreporter.section("seconds by layer")
        for layer, seconds in sorted(self.layers.items()):
            budget = BUDGETS_S.get(layer)
            over = budget is not None and seconds > budget
            mark = "  over its budget" if over else ""
            allowed = "-" if budget is None else str(budget)
            line(f"{layer:<12} {seconds:7.1f} of {allowed:>4}{mark}", yellow=over)
        for name, seconds in sorted(self.tests.items(), key=lambda item: -item[1])[:SLOWEST]:
            if seconds >= 1:
                line(f"{seconds:7.1f} s  {name}")
        if failed := os.environ.get("ISTHMUS_FAILED_PARTS"):
            terminalreporter.section("before the tests")
            line(f"failed: {failed}", red=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(WHOLE_JOBS):
            item.add_marker(pytest.mark.slow)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(LayerBudgets(), "layer-budgets")
