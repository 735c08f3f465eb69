"""Tokenization: sources, tokenizers, the token-shard format and its verifier."""
