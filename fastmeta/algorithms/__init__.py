"""One file an algorithm, each a learner of fastmeta.learning.learner."""
