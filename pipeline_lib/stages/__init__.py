"""One module per rule and of its name: open inputs, call, write outputs."""
