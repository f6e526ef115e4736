"""Networks as data: layers, and what they are compiled to."""
