"""SAM with TinyViT as its image encoder: MobileSAM, and LiteMedSAM, which was distilled from MedSAM."""

from torch import Tensor, nn
from torch.nn import functional as F

from pipeline_lib.model.tiny_vit import EMBEDDING_WIDTH, WIDTHS, TinyViT
from pipeline_lib.model.upstream import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

GRID = 64  # cells along a side of the embedding, whatever the input's size
CLASSES = 1000  # of ImageNet: MobileSAM's checkpoint still has the layer that classifies images


class LiteMedSam(Sam):  # type: ignore[misc]  # its package is untyped
    """SAM with LiteMedSAM's `preprocess`. `normalisation` names it in the record that identifies embeddings."""

    normalisation = "each tile from its darkest to its brightest as 0 to 1"

    def preprocess(self, x: Tensor) -> Tensor:
        """Scale a tile (…, 3, h, w) of any range to [0, 1], and pad it with zeros to the network's input (…, 3, S, S).

        If all pixels are equal, the result is 0. From Ma et al. 2024 (`inference.py` of
        github.com/bowang-lab/MedSAM, branch LiteMedSAM).
        """
        low, high = x.amin((-3, -2, -1), keepdim=True), x.amax((-3, -2, -1), keepdim=True)
        scaled = (x - low) / (high - low).float().clamp(min=1e-8)
        side, (height, width) = self.image_encoder.img_size, x.shape[-2:]
        return F.pad(scaled, (0, side - width, 0, side - height))


def build_litemedsam() -> Sam:
    """Build LiteMedSAM with random weights; its input has 256 × 256 pixels."""
    encoder = TinyViT(image_size=256, patch_side=1, patch_stride=1)
    return LiteMedSam(encoder, *_prompt_encoder_and_decoder(encoder.img_size))


def build_mobile_sam() -> Sam:
    """Build MobileSAM with random weights; its input has 1,024 × 1,024 pixels and is normalised as SAM's."""
    encoder = TinyViT(image_size=1024, patch_side=3, patch_stride=2)
    # These layers are not used, but the checkpoint has their weights.
    encoder.norm_head, encoder.head = nn.LayerNorm(WIDTHS[-1]), nn.Linear(WIDTHS[-1], CLASSES)
    return Sam(encoder, *_prompt_encoder_and_decoder(encoder.img_size))


def _prompt_encoder_and_decoder(image_size: int) -> tuple[PromptEncoder, MaskDecoder]:
    """Build SAM's prompt encoder and mask decoder for a square input of `image_size` pixels a side."""
    prompt_encoder = PromptEncoder(EMBEDDING_WIDTH, (GRID, GRID), (image_size, image_size), mask_in_chans=16)
    transformer = TwoWayTransformer(depth=2, embedding_dim=EMBEDDING_WIDTH, num_heads=8, mlp_dim=2048)
    return prompt_encoder, MaskDecoder(transformer_dim=EMBEDDING_WIDTH, transformer=transformer)
