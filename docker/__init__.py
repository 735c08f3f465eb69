"""The image: how it is pinned and built, and what stands at its door."""
