"""The problems of the command line: tasks, a network, pictures."""
