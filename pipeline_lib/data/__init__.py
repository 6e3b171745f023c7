"""From files of any format to tiles, objects and boxes, and the layout of what is written."""
