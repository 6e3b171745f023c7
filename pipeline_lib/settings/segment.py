"""Settings of the segmentation of a user's images with the user's boxes."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from pipeline_lib.settings.base import (
    Amount,
    Count,
    Different,
    List,
    PixelSize,
    PrecisionChoice,
    Settings,
    Share,
    Whole,
    Words,
)

BoxFormatName = Literal[
    "coco", "yolo", "voc", "csv", "fiji", "geojson", "labelme", "label_studio", "via", "cvat", "roboflow"
]
OnBadBox = Literal["stop", "skip"]
OutlineForm = Literal["geojson", "rois", "yolo"]
Text = Annotated[str, Field(min_length=1), Words("text")]
Overlay = dict[str, Any]  # some keys of another section; `config/overlays.py` checks them
Percent = Annotated[float, Field(ge=0, le=100)]


class FixedGrey(Settings):
    """The same grey values for all images."""

    range: Annotated[tuple[float, float], List, Different, Words("[black, white], two different numbers")]
    """Grey values that become black and white. If white is the smaller one, the contrast is inverted."""


class MeasuredGrey(Settings):
    """Grey values that are measured in each image."""

    percentiles: Annotated[
        tuple[Percent, Percent], List, Different, Words("[black, white], two different numbers from 0 to 100")
    ]
    """Percentiles of an image's grey values that become black and white, such as [0.5, 99.5]. If white is the smaller
    one, the contrast is inverted."""


def _grey(value: Any) -> str:
    measured = isinstance(value, MeasuredGrey) or (isinstance(value, dict) and "percentiles" in value)
    return "percentiles" if measured else "range"


Grey = Annotated[Annotated[FixedGrey, Tag("range")] | Annotated[MeasuredGrey, Tag("percentiles")], Discriminator(_grey)]


class Flags(Settings):
    """Thresholds of the flags for objects that a person should look at."""

    moved: Share
    """Flag an object if the IoU of the prompted box and the box around its mask is at most this."""
    disagree: Share
    """Flag an object if the IoU of its first and its kept mask is at most this."""
    predicted_iou: Share
    """Flag an object if the predicted IoU of its mask is below this."""


class TrackFlags(Settings):
    """Thresholds of the flags for objects of a volume that a person should look at."""

    predicted_iou: Share
    """Flag an object if the mean predicted IoU of its masks is below this."""
    abrupt: Share
    """Flag an object if it ends within the volume, and its last mask there has at least this share of the pixels of its
    largest mask."""
    growth: Amount
    """Flag an object if its largest mask has more than this multiple of the pixels of its mask in the slice of a
    box."""
    agreement: Share
    """Flag an object if tracks from two of its boxes meet in a slice, and the IoU of their masks there is below
    this."""
    shared: Share
    """Flag an object if more than this share of its voxels also belongs to another object."""


class TrackConfig(Settings):
    """How an object is followed from slice to slice of a volume, and when it ends."""

    max_iterations: Whole
    """Largest number of repeated predictions in a slice without a box. `refine.max_iterations` is for slices with a
    box."""
    overlap: Share
    """An object ends before the first slice in which the IoU of its mask with the mask before is below this."""
    confidence: Share
    """An object ends before the first slice in which the predicted IoU of its mask is below this share of the mean over
    its masks so far, from the slice of the box."""
    likeness: Share
    """An object ends before the first slice in which the grey values inside its mask are too unlike those inside its
    masks so far: 1 minus the Kolmogorov-Smirnov distance of the two distributions is below this."""
    shards: Count
    """Number of jobs into which the objects of a volume are divided."""
    flags: TrackFlags
    """Thresholds of the flags."""


class PromptsConfig(Settings):
    """How images and boxes are read, and how windows are placed around boxes."""

    format: BoxFormatName | None
    """Format of the boxes. Null decides by the suffix and the content of each file."""
    on_bad_box: OnBadBox
    """What happens if a box is bad: `stop` raises an error, `skip` leaves the box out and gives the reason in the
    table."""
    grey: Grey | None
    """Grey values that become black and white. Null is for 8-bit images."""
    channel: Whole | None
    """Channel to segment, counted from 0, if images have several channels. Null is for images with one."""
    stack: bool
    """Whether the images of a folder are the slices of one volume, in the order of their names."""
    missing_chunks: Annotated[tuple[Literal["images"], ...], List, Different]
    """`[images]` accepts Zarr images whose writer left out blank chunks. Otherwise they are refused."""
    window: Annotated[int, Field(ge=16)] | None
    """Side of the square window that the encoder sees, pixels. Null uses the side of the tiles that the model was
    trained on; without a model, the input size of the network."""
    object_share: Annotated[float, Field(gt=0, le=1)] | None
    """Largest share of the side of a window that the box of an object takes. Windows then have several sizes. With
    null, all windows have the same size, unless a box does not fit."""
    margin: Amount
    """Smallest margin around a box in its window, as a multiple of the sides of the box."""


class SegmentConfig(PromptsConfig):
    """How a user's own images and boxes are segmented."""

    pixel_size: PixelSize | None
    """Size of a pixel, nm. It is written to the label images, and used for measurements in nanometres. Null leaves out
    both."""
    shards: Count
    """Number of jobs into which a set is divided."""
    batch: Count
    """Number of windows in a call of the encoder."""
    precision: PrecisionChoice
    """Precision of the matrix products of encoder and decoder, as in `embed`."""
    refine: Overlay
    """Keys of `refine` that differ here. By default, an iteration is the output only if it is clearly better than the
    first mask."""
    flags: Flags
    """Thresholds of the flags."""
    track: TrackConfig
    """How objects are followed through the slices of a volume."""

    def prompts(self) -> PromptsConfig:
        """Return only the keys for images, boxes and windows."""
        return PromptsConfig.model_validate(self.model_dump(include=set(PromptsConfig.model_fields)))


class TrainedModel(Settings):
    """A model that this experiment trains."""

    dataset: str
    """Data set that it is trained on."""
    model: str
    """Its name in `models`."""
    seed: Whole
    """Its seed."""


class PredictSet(Settings):
    """Images to segment, and the boxes of their objects."""

    images: Text
    """Path of the images: a folder, or one stack. A relative path is a path in the folder `data`."""
    boxes: Text | Annotated[tuple[Text, ...], List, Field(min_length=1)]
    """Path of the boxes, or a list of paths: files or folders."""
    model: TrainedModel | str | None = "shipped"
    """A model of this experiment, or the file of a model. `shipped` is the model that comes with LooseBox. Null uses
    the backbone without further training."""
    segment: Overlay = Field(default_factory=dict)
    """Keys of `segment` that differ for this set."""
