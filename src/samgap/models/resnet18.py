"""ResNet-18 for small images with any number of filters, made of timm's basic blocks.

As in the paper, the stem scales with the width. The stem of timm's own ResNet always has 64 channels.
"""

from timm.models.resnet import BasicBlock, downsample_conv
from torch import Tensor, nn

from samgap.models.count import whole

WIDTH_STEP = 1  # filters


class ResNet18(nn.Module):
    """A 3x3 stem of f filters without pooling, four stages, a mean over pixels, and a linear layer.

    The stages have two blocks each and f, 2f, 4f, 8f channels; the last three halve the image. B is the batch size,
    c the channels, C the classes.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, width: float = 64) -> None:
        """
        Args:
            shape: (c, h, w) of an image; any h and w.
            classes: C.
            width: f, the filters of the stem and of the first stage.

        Raises:
            SettingError: f is not a whole number from 1.
        """
        super().__init__()
        filters = whole(width, "model.width (filters of a resnet18)")
        self.stem = nn.Sequential(
            nn.Conv2d(shape[0], filters, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(inplace=True),
        )
        self.stages = nn.Sequential()
        inputs = filters
        for stage in range(4):
            channels, stride = filters * 2**stage, 1 if stage == 0 else 2
            shortcut = downsample_conv(inputs, channels, kernel_size=1, stride=stride) if stride > 1 else None
            self.stages.append(BasicBlock(inputs, channels, stride=stride, downsample=shortcut))
            self.stages.append(BasicBlock(channels, channels))
            inputs = channels
        self.head = nn.Linear(inputs, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, c, h, w) to logits (B, C)."""
        features = self.stages(self.stem(images))  # (B, 8f, h/8, w/8)
        return self.head(features.mean(dim=(2, 3)))
