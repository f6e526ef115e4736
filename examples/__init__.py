"""Real problems, each a folder with one script: `python -m examples.molecules DATA`."""
