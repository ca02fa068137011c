"""The cloud side of device rounds: strategies, robust combination, simulation."""
