"""The checks of ``jobctl doctor``.

Each looks at one thing, and says cause, evidence and remedy where it is ill.
"""
