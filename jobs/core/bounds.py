"""The largest numbers that a setting may have. A larger one is a slip of the hand, such as ``1e300``."""

from typing import Final

MOST: Final = 1_000_000_000
"""The largest count of anything, such as steps, sequences, seconds or layers."""
MOST_PROCESSES: Final = 4096
"""The largest number of processes of one program on one node."""
MOST_BYTES: Final = 10**15
"""The largest number of bytes of a file."""
LARGEST: Final = 1e38
"""About the largest number of type float32. A larger one would be infinite on a GPU."""
