"""The checks of ``jobctl doctor``: each looks at one thing, and says cause, evidence and remedy where it is ill."""
