"""The functions of each layer, one file a kind."""
