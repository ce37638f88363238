"""Code that the stores of this project share, beside their codec."""
