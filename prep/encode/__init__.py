"""Tokenizers and encoders: text to token ids."""
