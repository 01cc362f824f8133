"""ResNet-50 with any number of filters, made of timm's bottleneck blocks.

As in the paper, the stem scales with the width. The stem of timm's own ResNet always has 64 channels.
"""

from timm.models.resnet import Bottleneck, downsample_conv
from torch import Tensor, nn

from samgap.models.count import whole

WIDTH_STEP = 1  # filters


class ResNet50(nn.Module):
    """A 7x7 stem of f filters with pooling, four stages, a mean over pixels, and a linear layer.

    The stem divides height and width by four. The stages have 3, 4, 6, 3 bottleneck blocks and 4f, 8f, 16f, 32f
    channels; the last three halve the image. The last batch norm of each block starts at scale 0, as in the official
    code, so that blocks start as identities. B is the batch size, c the channels, C the classes.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, width: float = 64) -> None:
        """
        Args:
            shape: (c, h, w) of an image; any h and w.
            classes: C.
            width: f, the filters of the stem.

        Raises:
            SettingError: f is not a whole number from 1.
        """
        super().__init__()
        filters = whole(width, "model.width (filters of a resnet50)")
        self.stem = nn.Sequential(
            nn.Conv2d(shape[0], filters, kernel_size=7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        )
        self.stages = nn.Sequential()
        inputs = filters
        for stage, blocks in enumerate((3, 4, 6, 3)):
            inner, outer = filters * 2**stage, filters * 2**stage * Bottleneck.expansion
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                shortcut = downsample_conv(inputs, outer, kernel_size=1, stride=stride) if inputs != outer else None
                unit = Bottleneck(inputs, inner, stride=stride, downsample=shortcut)
                unit.zero_init_last()
                self.stages.append(unit)
                inputs = outer
        self.head = nn.Linear(inputs, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, c, h, w) to logits (B, C)."""
        features = self.stages(self.stem(images))  # (B, 32f, h/32, w/32)
        return self.head(features.mean(dim=(2, 3)))
