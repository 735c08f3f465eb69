"""A jobctl on another machine: the call of ssh, the request, and the answer."""
