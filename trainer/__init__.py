"""The program that torchrun starts inside the image: the models, and the loop that trains them."""
