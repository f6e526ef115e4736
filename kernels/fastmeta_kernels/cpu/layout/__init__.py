"""Where everything lies: a network laid out, an instruction and a job by their fields."""
