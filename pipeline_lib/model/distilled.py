"""SAM with the encoder TinyViT: MobileSAM, and LiteMedSAM, which was distilled from MedSAM."""

from torch import Tensor, nn
from torch.nn import functional as F

from pipeline_lib.model.tiny_vit import EMBEDDING_WIDTH, WIDTHS, TinyViT
from pipeline_lib.model.upstream import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

GRID = 64  # cells along a side of the embedding, whatever the input's size
CLASSES = 1000  # of ImageNet, which MobileSAM's checkpoint still tells apart


class LiteMedSam(Sam):  # type: ignore[misc]  # its package is untyped
    """SAM with a `preprocess` of its own, which `normalisation` names in what identifies embeddings."""

    normalisation = "each tile from its darkest to its brightest as 0 to 1"

    def preprocess(self, x: Tensor) -> Tensor:
        """A tile (…, 3, h, w) of any range, scaled to [0, 1] and zero-padded to the network's input (…, 3, S, S).

        As Ma et al. 2024 normalise (`inference.py` of github.com/bowang-lab/MedSAM, branch LiteMedSAM). A tile of one
        grey is 0.
        """
        low, high = (of((-3, -2, -1), keepdim=True) for of in (x.amin, x.amax))
        scaled = (x - low) / (high - low).float().clamp(min=1e-8)
        side, (height, width) = self.image_encoder.img_size, x.shape[-2:]
        return F.pad(scaled, (0, side - width, 0, side - height))


def build_litemedsam() -> Sam:
    """The network with random weights: 256-pixel input."""
    encoder = TinyViT(image_size=256, patch_side=1, patch_stride=1)
    return LiteMedSam(encoder, *_prompt_encoder_and_decoder(encoder.img_size))


def build_mobile_sam() -> Sam:
    """The network with random weights: 1,024-pixel input, normalised as SAM's."""
    encoder = TinyViT(image_size=1024, patch_side=3, patch_stride=2)
    encoder.norm_head, encoder.head = nn.LayerNorm(WIDTHS[-1]), nn.Linear(WIDTHS[-1], CLASSES)  # in its file, unused
    return Sam(encoder, *_prompt_encoder_and_decoder(encoder.img_size))


def _prompt_encoder_and_decoder(image_size: int) -> tuple[PromptEncoder, MaskDecoder]:
    """Those of SAM, for an input of this size."""
    prompt_encoder = PromptEncoder(EMBEDDING_WIDTH, (GRID, GRID), (image_size, image_size), mask_in_chans=16)
    transformer = TwoWayTransformer(depth=2, embedding_dim=EMBEDDING_WIDTH, num_heads=8, mlp_dim=2048)
    return prompt_encoder, MaskDecoder(transformer_dim=EMBEDDING_WIDTH, transformer=transformer)
