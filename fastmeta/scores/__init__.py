"""How good a learner is, and whether it is better than another."""
