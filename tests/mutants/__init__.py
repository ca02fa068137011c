"""Seeded bugs that the tests must notice: `./run mutants`."""
