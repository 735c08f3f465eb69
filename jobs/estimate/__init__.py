"""What a training will take, before it is submitted: memory, time, money and disk, by arithmetic alone."""
