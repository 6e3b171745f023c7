"""Commands that measure speed and memory. Each prints tables for README.md."""
