"""The processor and its compiler; knows no network."""
