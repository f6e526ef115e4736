"""Published few-shot numbers on Omniglot, again: `python -m benchmarks.omniglot`, see __main__.py."""
