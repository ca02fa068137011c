"""How messages travel: typed, fixed-width, over memory, a stream between two processes, or the link between two institutions."""
