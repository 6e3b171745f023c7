"""The stages of the workflow: a module for each rule, with its name. It opens inputs, calls, and writes outputs."""
