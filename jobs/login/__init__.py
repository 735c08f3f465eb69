"""A jobctl on another machine: how ssh is called, what is asked, and what comes back."""
