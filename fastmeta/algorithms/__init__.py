"""One file an algorithm, each a learner of fastmeta.learner."""
