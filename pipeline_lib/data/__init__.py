"""Read images, labels and boxes of any format; cut tiles; write masks and tables."""
