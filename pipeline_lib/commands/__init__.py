"""Commands of `loosebox` that run stages one after the other, a module for each."""
