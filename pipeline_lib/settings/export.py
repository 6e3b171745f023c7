"""Settings of exported models."""

from typing import Literal

ExportForm = Literal["segment_anything", "onnx", "transformers"]
