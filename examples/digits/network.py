"""The network, for whichever library is to run it."""


def build_network(nn):
    """Two convolutions and two dense layers, some 152,000 weights.

    Args:
        nn: The module that the layers come from: fastconv.nn or torch.nn.

    Returns:
        A Sequential of that library, [N, 1, 8, 8] in and [N, 10] out.
    """
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
    )
