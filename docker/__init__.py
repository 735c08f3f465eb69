"""Pin and build the image, and check its packages and hardware."""
