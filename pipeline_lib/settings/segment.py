"""How a user's own images and boxes are segmented."""

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
Overlay = dict[str, Any]  # some keys of another section, which is checked with them laid over it
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
    """Thresholds of the flags that ask a person to look at an object."""

    moved: Share
    """Flag an object if the IoU of the prompted box and the box around its mask is at most this."""
    disagree: Share
    """Flag an object if the IoU of its first and its final mask is at most this."""


class TrackFlags(Settings):
    """Thresholds of the flags that ask a person to look at an object of a volume."""

    predicted_iou: Share
    """Flag an object if the mean predicted IoU of its masks is below this."""
    abrupt: Share
    """Flag an object if it ends within the volume, and its last mask there has at least this share of the pixels of its
    largest one."""
    growth: Amount
    """Flag an object if its largest mask has more than so many times the pixels of its mask in the slice of a box."""
    agreement: Share
    """Flag an object if the two masks where tracks from two boxes meet overlap by an IoU below this."""
    shared: Share
    """Flag an object if more than this share of its voxels belongs to another object as well."""


class TrackConfig(Settings):
    """How an object is followed from slice to slice of a volume, and when it ends."""

    max_iterations: Whole
    """Largest number of repeated predictions in a slice without a box. In the slice of a box it is that of `refine`."""
    overlap: Share
    """An object ends before the first slice whose mask overlaps the last one by an IoU below this."""
    confidence: Share
    """An object ends before the first slice whose mask has a predicted IoU below this share of the mean of its masks so
    far, from the slice of the box."""
    likeness: Share
    """An object ends before the first slice in which the greys inside its mask are less like the mean of those inside
    its masks so far: 1 less the Kolmogorov-Smirnov distance of the two distributions is below this."""
    shards: Count
    """Number of jobs that the objects of a volume are divided into."""
    flags: TrackFlags
    """Thresholds of the flags."""


class PromptsConfig(Settings):
    """How images and boxes are read, and how windows are laid around boxes."""

    format: BoxFormatName | None
    """Format of the boxes. Null tells it from the files' suffixes."""
    on_bad_box: OnBadBox
    """What happens if a box cannot be used: `stop` is an error, `skip` leaves the box out and says so in the table."""
    grey: Grey | None
    """Grey values that become black and white. Null is for 8-bit images."""
    channel: Whole | None
    """Channel that is segmented, counted from 0, of images with several. Null is for images with one."""
    stack: bool
    """Whether the images of a folder are the slices of one volume, in the order of their names."""
    missing_chunks: Annotated[tuple[Literal["images"], ...], List, Different]
    """`[images]` takes Zarr images whose writer left out blank chunks. They are refused otherwise."""
    window: Annotated[int, Field(ge=16)] | None
    """Side of the square window that the encoder sees, pixels. Null takes the tile side that the model was trained on;
    without a model, the input size of the network."""
    object_share: Annotated[float, Field(gt=0, le=1)] | None
    """Largest share of its window's side that an object's box takes. Windows have several sizes then. Null keeps one
    size."""
    margin: Amount
    """Smallest margin that a window shows around a box, in sides of the box."""


class SegmentConfig(PromptsConfig):
    """How a user's own images and boxes are segmented."""

    pixel_size: PixelSize | None
    """Size of a pixel, nm: for the label images, and for measurements in nanometres. Null leaves both out."""
    shards: Count
    """Number of jobs that a set is divided into."""
    batch: Count
    """Number of windows in a call of the encoder."""
    precision: PrecisionChoice
    """Precision of the matrix products of encoder and decoder, as in `embed`."""
    refine: Overlay
    """Keys of `refine` that differ here. By default an iteration counts if it is clearly better than the first mask."""
    flags: Flags
    """Thresholds of the flags."""
    track: TrackConfig
    """How objects are followed through the slices of a volume."""

    def prompts(self) -> PromptsConfig:
        """Return the keys for images, boxes and windows alone."""
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
    """Path of the images: a folder, or one stack. A relative path is sought in the folder `data`."""
    boxes: Text | Annotated[tuple[Text, ...], List, Field(min_length=1)]
    """Path of the boxes, or a list of paths: files or folders."""
    model: TrainedModel | str | None = "shipped"
    """A model of this experiment, or the file of a model; `shipped` is the model that comes with LooseBox. Null is the
    backbone as it is."""
    segment: Overlay = Field(default_factory=dict)
    """Keys of `segment` that differ for this set."""
