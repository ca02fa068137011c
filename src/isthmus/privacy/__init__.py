"""Differential privacy: clipping, exact noise, what rounds cost, and a ledger that stops what would overspend."""
