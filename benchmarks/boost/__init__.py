"""What `bench_boost.py` is made of: data, the pair over a socket, the pair over the link, peers, growth, profile."""
