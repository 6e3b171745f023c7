"""Read configuration files and overlays as settings, and derive from them what each stage needs."""
