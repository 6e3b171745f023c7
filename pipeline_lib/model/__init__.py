"""The networks: segment_anything's own, with a deviation token and faster forwards, and what they are loaded from."""
