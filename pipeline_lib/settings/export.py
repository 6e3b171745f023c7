"""Forms of an exported model."""

from typing import Literal

ExportForm = Literal["segment_anything", "onnx", "transformers"]
