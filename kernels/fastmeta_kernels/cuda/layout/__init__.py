"""Where everything lies: a network laid out, jobs as they are recorded."""
