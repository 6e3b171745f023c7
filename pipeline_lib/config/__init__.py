"""A configuration: how files and overlays become settings, and what follows from them for each stage."""
