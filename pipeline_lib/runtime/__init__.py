"""Files, processes, devices and clusters: the needs of any long computation, without anything about microscopy."""
