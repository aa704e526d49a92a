"""What the program makes of kills, bad input and divergence."""
