"""The checks of ``jobctl doctor``.

Each check looks at one thing. If it is faulty, the check names cause, evidence and remedy.
"""
