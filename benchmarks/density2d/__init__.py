"""Every loss on eight planar densities with an equal budget of seconds, on one thread."""
