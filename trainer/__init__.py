"""What runs under torchrun inside the image: the models, and the loop that trains them."""
