"""LooseBox: Segment Anything that tolerates loose boxes on electron-microscopy images."""
