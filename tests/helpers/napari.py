"""napari, in a process of its own: its imports warn, and here a warning is an error."""

import json
import subprocess
import sys
from typing import Any


def in_napari(program: str, given: dict[str, Any]) -> Any:
    """Run a program that finds `given`, and return what it prints as JSON, if anything."""
    start = f"import json\ngiven = json.loads({json.dumps(given)!r})\n"
    run = subprocess.run([sys.executable, "-c", start + program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    lines = run.stdout.splitlines()
    return json.loads(lines[-1]) if lines else None  # the reader prints, too
