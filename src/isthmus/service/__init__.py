"""The node: it keeps partners, datasets and jobs, runs workers, and answers a small HTTP interface on loopback."""
