"""The commands of `loosebox` that run several stages, a module for each."""
