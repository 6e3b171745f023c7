"""Write masks: one module for each output. `table.py` lists them."""
