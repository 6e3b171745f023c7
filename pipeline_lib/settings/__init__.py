"""One definition of every setting: its type, its limits and its meaning."""
