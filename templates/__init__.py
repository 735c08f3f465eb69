"""The Jinja templates; nothing else decides what a rendered file looks like."""
