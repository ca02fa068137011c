"""Parts of ./run bench fleet."""
