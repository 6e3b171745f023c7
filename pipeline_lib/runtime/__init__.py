"""Files, processes, devices and clusters: what any long computation needs, whatever it computes."""
