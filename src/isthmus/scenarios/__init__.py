"""Ready-made portfolios: one folder a scenario with its data, where they come from, and how two parties hold them."""
