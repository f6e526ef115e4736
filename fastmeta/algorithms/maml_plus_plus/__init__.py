"""MAML++ and its statistics of batch norm, one set an inner step."""
