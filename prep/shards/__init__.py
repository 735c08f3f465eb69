"""The token-shard format, its writer and its figures."""
