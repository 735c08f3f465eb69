"""The jobctl tool. It turns choices into jobs."""
