"""Fused training kernels, written in Triton. Beside each is its reference in plain PyTorch."""
