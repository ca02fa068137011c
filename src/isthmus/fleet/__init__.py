"""The cloud side of device rounds: tasks, rounds, strategies, the leader and its helpers."""
