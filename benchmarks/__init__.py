"""What is fast, by how much, and where: each module writes its section of README.md."""
