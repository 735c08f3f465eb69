"""Clusters and container engines that tests start on this machine."""

BUSY = 10
"""How many times as long as an idle machine a busy one may take, before a test says that it waits in vain."""
