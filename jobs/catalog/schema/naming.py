"""Words that several parts of the schema share."""

from typing import Literal

ImageVariant = Literal["cpu", "cu124", "cu132"]
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""Names become folders, job names and labels."""
