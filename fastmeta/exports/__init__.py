"""A trained learner leaves Python: as C, with an adapt() of its own."""
