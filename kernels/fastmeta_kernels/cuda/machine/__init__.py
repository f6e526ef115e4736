"""The device and its compiler; knows no network."""
