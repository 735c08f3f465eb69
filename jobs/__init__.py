"""The jobctl tool: choices in, jobs out."""
